#pragma once
// ChoiceScorer: which of some texts continues a prompt best, by the model's own probabilities.

#include <memory>
#include <string>
#include <vector>

#include "llmtool/infer/generator.h"

namespace llmtool {

struct ChoiceOptions {
  /// What a choice's log-probability is divided by: longer choices are less likely for their length alone.
  enum class Normalize { none, tokens, bytes };

  std::vector<std::string> choices;
  Normalize normalize = Normalize::none;
  bool truncate_left = false;  // as of GenerationOptions
  int64_t context = 0;         // positions of prompt and choice; 0: the model's
  DType kv_cache_type = DType::f32;
  std::string prompt_cache = {};
};

struct ChoiceResult {
  int64_t index = 0;  // of the prompt
  std::string prompt;
  size_t best = 0;                    // the choice of the greatest score; of equal ones the first
  std::vector<double> logprobs;       // of each choice: the sum over its tokens
  std::vector<double> probabilities;  // softmax of the scores, which are the normalised log-probabilities
  std::vector<int64_t> tokens;        // of each choice
  double seconds = 0;
};

/// A prompt as it is scored.
struct ChoiceTexts {
  std::vector<TokenId> prompt;              // without what does not fit the context
  std::vector<std::vector<TokenId>> texts;  // the prompt with each choice
  size_t shared = 0;                        // ids that all of them and the prompt begin with, at least one
};

/// Scores whole texts, prompt and choice encoded together, given the ids that all of them and the prompt
/// alone begin with. So a choice's tokens are those that the text has, a space at the border belongs to the
/// word behind it where the tokenizer has it so, and where the border is no border between tokens every
/// choice is charged for the prompt's end, too. A prompt of ids is continued by each choice's own ids.
///
/// What texts have in common is computed once: the prompt, from one prompt to the next what both begin with,
/// and the beginnings that choices share.
class ChoiceScorer {
 public:
  /// Throws UsageError on fewer than two choices, an empty one, one that is not UTF-8 or two that are the
  /// same.
  ChoiceScorer(const Transformer& model, const Tokenizer& tokenizer, ThreadPool& pool, ChoiceOptions options);
  ~ChoiceScorer();

  /// Throws Error naming the prompt where text and choices do not fit the context, or a choice adds no token,
  /// UsageError where there are no ids.
  ChoiceTexts fit(const GenerationRequest& request, int64_t index) const;
  /// Of what fit() made of the same request.
  ChoiceResult score(const GenerationRequest& request, int64_t index, const ChoiceTexts& fitted);
  ChoiceResult score(const GenerationRequest& request, int64_t index) {
    return score(request, index, fit(request, index));
  }

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace llmtool
