#pragma once
// Generator: many prompts answered together.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "llmtool/grammar/matcher.h"
#include "llmtool/infer/sampler.h"
#include "llmtool/model/transformer.h"
#include "llmtool/text/tokenizer.h"

namespace llmtool {

struct GenerationOptions {
  SamplingOptions sampling;
  int64_t max_new_tokens = 128;
  std::vector<TokenId> stop_ids;
  std::vector<std::string> stop_strings;
  int64_t num_samples = 1;     // answers to each prompt
  int64_t logprobs = -1;       // log-probabilities, with the k likeliest alternatives; -1: none
  bool echo = false;           // the prompt's log-probabilities, too
  bool truncate_left = false;  // a prompt that is too long loses its beginning instead of being an error
  int64_t batch_size = 8;      // sequences decoded together
  uint64_t seed = 0;
  /// What an answer's text is held to, from its first token on. Log-probabilities stay those of the model.
  std::shared_ptr<const Grammar> grammar;
  DType kv_cache_type = DType::f32;  // or f16 or q8_0
  std::string prompt_cache;          // file for what is kept of the first prompt: see PromptCacheFile

  int64_t context = 0;  // positions of prompt and answer, where less than the model has; 0: all
  /// A prompt that cannot be answered has a result with its error; else the error ends the run.
  bool skip_failed = false;
  int64_t best_of = 1;  // answers of which the one of the greatest mean log-probability is given

  /// Beam search, where num_beams > 1: of the model's own probabilities, without sampling; the num_samples
  /// best are given, an error where a form has fewer. A score is the sum of log-probabilities over
  /// length^length_penalty.
  enum class EarlyStopping { no, yes, never };
  int64_t num_beams = 1;
  double length_penalty = 1;
  EarlyStopping early_stopping =
      EarlyStopping::no;  // yes: at num_beams answers; never: while some may be better

  /// Speculation: tokens are drafted and checked in one pass. A draft that is what would have been drawn
  /// stays, so that the text is the same as without, whatever the temperature. Drafts come from the text
  /// itself (what followed when it last had these tokens) or from a smaller model of the same tokens
  /// (check_same_vocabulary).
  bool look_up = false;
  const Transformer* draft_model = nullptr;
  int64_t draft_tokens = 8;  // of one pass, at most

  /// Asked at every step and between the pieces of a long prompt, where it is there. Once it says yes,
  /// answers end as they are, "stopped", and no more begin: a prompt that is still being read has none.
  std::function<bool()> stop_wanted;
};

struct GenerationRequest {
  std::string prompt;
  std::vector<TokenId> ids;  // what the model sees
  std::vector<int32_t> token_types =
      {};                 // of each id, where a row says them: for models that read whole texts
  int64_t index = -1;     // its number, greater than the one before it; -1: the next one
  std::string name = {};  // what errors call it; "": prompt and its number
};

/// What errors call a prompt, the `index`-th from 0.
std::string name_of(const GenerationRequest& request, int64_t index);

using TokenLogprob = std::pair<TokenId, double>;

struct GenerationResult {
  int64_t index = 0, sample = 0;  // of the prompt, of the answer
  std::string prompt, text;
  std::vector<TokenId> prompt_ids, ids;  // the stop id is not among ids
  std::string finish_reason;     // "stop", "length" or "stopped"; "error": there is none, nor another sample
  std::string error = {};        // why, naming the prompt
  bool complete = true;          // the text is of the grammar's form; true where there is none
  std::vector<double> logprobs;  // of ids
  std::optional<double> score;   // of beam search and of the best of several
  std::vector<std::optional<double>> prompt_logprobs;
  std::vector<std::vector<TokenLogprob>> top_logprobs;  // of ids
  double prompt_seconds = 0, seconds = 0;               // reading the prompt; writing the answer
  int64_t prompt_copied = 0;                            // tokens that were known from another prompt
  int64_t drafted = 0, accepted = 0;                    // tokens, of speculation
  size_t kv_cache_bytes = 0;
};

/// A text as it grows: decodes ids, holds back half characters and what may be the start of a stop string.
class AnswerText {
 public:
  /// `continues`: the prompt has text.
  AnswerText(const Tokenizer* tokenizer, const std::vector<std::string>& stops, bool continues = false);
  /// What `id` adds for sure. stopped() tells whether a stop string is complete; the text ends before it.
  std::string push(TokenId id);
  std::string finish();
  bool stopped() const { return stopped_; }
  const std::string& text() const { return text_; }  // all that was handed out

 private:
  std::string release(std::string fresh, bool last);

  std::optional<StreamDecoder> decoder_;
  const std::vector<std::string>& stops_;
  std::string text_, held_;
  bool stopped_ = false;
};

/// An answer depends on its prompt, the options and its number alone, not on its company or the number of
/// threads. An adapter's virtual tokens stand in front of every prompt and are no part of the results.
class Generator {
 public:
  using Source = std::function<bool(GenerationRequest&)>;            // false: no more
  using Sink = std::function<void(const GenerationResult&)>;         // in order of prompts and samples
  using Ready = std::function<bool()>;                               // whether the source can answer at once
  using Stream = std::function<void(const std::string& more_text)>;  // of the first unfinished answer

  /// `tokenizer` may be nullptr: then there is no text, and no grammar.
  Generator(const Transformer& model, const Tokenizer* tokenizer, ThreadPool& pool,
            GenerationOptions options);
  ~Generator();

  /// Answers that are under way do not wait for prompts that are not `ready`. An exception of the source, or
  /// of a prompt that cannot be or be answered (unless such are skipped), is thrown once the answers to those
  /// before it are delivered; one of sink or
  /// stream leaves at once, and what was under way is dropped. May be called again: prompts are then numbered
  /// on, and what the last run kept begins the next, as in a chat.
  void run(const Source& source, const Sink& sink, const Stream& stream = {}, const Ready& ready = {});

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// What a generator makes of a prompt's ids in a model's context (behind an adapter's virtual tokens): one
/// that is too long loses its beginning, or is refused. Throws Error opening with the prompt's `name`,
/// UsageError where there are no ids.
void fit_prompt(std::vector<TokenId>& ids, const std::string& name, int64_t context,
                const Tokenizer* tokenizer, const GenerationOptions& options);

/// Bytes that a generator's step takes beside weights and caches.
size_t generation_scratch(const Transformer& model, ThreadPool& pool, int64_t batch_size, bool echo);

}  // namespace llmtool
