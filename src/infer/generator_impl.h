#pragma once
// The parts of a Generator.

#include <deque>
#include <exception>
#include <optional>

#include "infer/beam_search.h"
#include "llmtool/core/clock.h"
#include "llmtool/core/error.h"
#include "llmtool/grammar/held_text.h"
#include "llmtool/infer/draft.h"
#include "llmtool/infer/generator.h"
#include "llmtool/infer/prompt_cache.h"

namespace llmtool {

/// A prompt that has been read, kept until all its answers have begun.
struct Prefix {
  GenerationRequest request;
  int64_t index = 0;
  std::shared_ptr<KvCache> cache;
  int64_t copied = 0;
  std::vector<float> logits;  // (V): after the last token
  std::vector<std::optional<double>> logprobs;
  double seconds = 0;
  int64_t samples_begun = 0;
};

/// An answer being written.
struct Slot {
  GenerationResult result;
  std::string name;  // of the prompt, for errors
  ReadText prompt;   // and its cache, which the answer goes on in
  TokenHistory history;
  AnswerText text;
  std::optional<HeldText> held;
  Rng rng;
  TokenId last = 0;
  std::vector<TokenId> so_far;    // prompt and answer, where drafts are looked up
  DraftModel::State draft_state;  // where a model drafts
  int64_t draft_limit = 0;        // fewer after drafts that were wrong
  double began = 0;
  bool done = false;

  Slot(const Tokenizer* tokenizer, const std::vector<std::string>& stops, bool continues)
      : text(tokenizer, stops, continues) {}
};

struct Generator::Impl {
  Impl(const Transformer& m, const Tokenizer* t, ThreadPool& p, GenerationOptions o)
      : model(m),
        tokenizer(t),
        options(std::move(o)),
        memory(m, options.kv_cache_type),
        context(text_context(m, options.context)),
        saved(4096),
        scratch(generation_scratch(
            m, p,
            std::max(options.num_beams, options.batch_size * (speculates() ? 1 + options.draft_tokens : 1)),
            options.echo)),
        exec{p, saved, scratch, Rng()} {
    settle();
    if (options.grammar) masks.emplace(*tokenizer, m.config().vocab_size, options.stop_ids);
    if (!options.prompt_cache.empty()) {
      if (options.echo) throw UsageError("the prompt cache: an echoed prompt is read as a whole");
      prompt_file.emplace(options.prompt_cache, m, t, p, options.kv_cache_type);
      memory.keep_for_good(prompt_file->read(false));
    }
    if (options.draft_model) drafter.emplace(*options.draft_model, m.config().vocab_size, p);
  }

  /// Throws UsageError where the options do not fit together.
  void settle();
  bool stopped() const { return options.stop_wanted && options.stop_wanted(); }
  bool speculates() const { return options.look_up || options.draft_model; }

  bool fits(GenerationRequest& request, int64_t index);
  /// nullptr where that was stopped.
  std::unique_ptr<Prefix> read_prompt(GenerationRequest request, int64_t index);
  bool read_echoed(Prefix& prefix);
  bool has_text(std::span<const TokenId> ids) const;
  void describe(GenerationResult& result, Prefix& prefix) const;
  std::unique_ptr<Slot> begin(Prefix& prefix);
  void take_token(Slot& slot, std::span<const float> logits);
  TokenId choose(Slot& slot, std::optional<HeldText>& held, std::span<const float> logits,
                 size_t place) const;
  bool stops_at(TokenId id) const;
  void end(Slot& slot, const char* reason);
  void fail(Slot& slot, std::string error);
  void attempt(Slot& slot, const std::function<void()>& step);
  TokenId draw(Slot& slot, std::span<const float> logits, size_t place) const;
  int64_t positions_of(const Slot& slot) const;
  int64_t draft_room(const Slot& slot) const;
  void follow(std::optional<HeldText>& held, TokenId id) const;
  std::vector<TokenId> forced_drafts(const Slot& slot, int64_t most) const;
  TokenId draft_token(Slot& slot, std::optional<HeldText>& held, std::span<const float> logits,
                      int64_t place) const;
  std::vector<std::vector<TokenId>> draft(const std::vector<Slot*>& active);
  void check_drafts(Slot& slot, std::span<const TokenId> drafts, std::span<const float> logits);
  std::vector<Hypothesis> hypotheses(const Prefix& prefix);
  void search_beams(Prefix& prefix);
  void take_hypothesis(Slot& slot, Hypothesis& hypothesis);
  void fill(const Source& source, const Ready& ready);
  void take_prompts(const Source& source, const Ready& ready);
  void decode();
  void deliver(const Sink& sink, const Stream& stream);
  void run(const Source& source, const Sink& sink, const Stream& stream, const Ready& ready);

  const Transformer& model;
  const Tokenizer* tokenizer;
  GenerationOptions options;
  std::optional<TokenMasks> masks;  // where there is a grammar
  PromptMemory memory;
  int64_t context;  // behind an adapter's virtual tokens
  Arena saved, scratch;
  Exec exec;
  std::optional<DraftModel> drafter;
  std::optional<PromptCacheFile> prompt_file;
  std::deque<std::unique_ptr<Slot>> slots;  // in the order of delivery
  std::unique_ptr<Prefix> prefix;           // whose answers are being begun
  int64_t prompts = 0;
  bool exhausted = false;
  std::exception_ptr failure;  // of a prompt: no more are taken
  size_t streamed = 0;         // bytes of the first slot's text that were streamed
};

}  // namespace llmtool
