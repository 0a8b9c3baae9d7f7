#pragma once
// Generator: many prompts answered together.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

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
};

struct GenerationRequest {
  std::string prompt;
  std::vector<TokenId> ids;  // what the model sees
  std::vector<int32_t> token_types =
      {};              // of each id, where a row says them: for models that read whole texts
  int64_t index = -1;  // its number, greater than the one before it; -1: the next one
};

using TokenLogprob = std::pair<TokenId, double>;

struct GenerationResult {
  int64_t index = 0, sample = 0;  // of the prompt, of the answer
  std::string prompt, text;
  std::vector<TokenId> prompt_ids, ids;  // the stop id is not among ids
  std::string finish_reason;             // "stop" or "length"
  std::vector<double> logprobs;          // of ids
  std::vector<std::optional<double>> prompt_logprobs;
  std::vector<std::vector<TokenLogprob>> top_logprobs;  // of ids
  double prompt_seconds = 0, seconds = 0;               // reading the prompt; writing the answer
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

  /// `tokenizer` may be nullptr: then there is no text.
  Generator(const Transformer& model, const Tokenizer* tokenizer, ThreadPool& pool,
            GenerationOptions options);
  ~Generator();

  /// Answers that are under way do not wait for prompts that are not `ready`. An exception of the source, or
  /// of a prompt that cannot be, is thrown once the answers to those before it are delivered. May be called
  /// again: prompts are then numbered on. One of sink or stream leaves at once; what was under way is
  /// dropped.
  void run(const Source& source, const Sink& sink, const Stream& stream = {}, const Ready& ready = {});

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Bytes that a generator's step takes beside weights and caches.
size_t generation_scratch(const Transformer& model, ThreadPool& pool, int64_t batch_size, bool echo);

}  // namespace llmtool
