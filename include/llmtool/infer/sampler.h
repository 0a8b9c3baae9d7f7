#pragma once
// Sampler: the choice of the next token.

#include <cstdint>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "llmtool/text/tokenizer.h"

namespace llmtool {

/// Applied in this order: repetition, frequency and presence penalties; temperature; top-k; top-p; min-p.
struct SamplingOptions {
  double temperature = 0.8;  // 0: the likeliest token
  int64_t top_k = 0;         // the k likeliest; 0: all
  double top_p = 1;          // the fewest that together reach p (Holtzman et al. 2020)
  double min_p = 0;          // those with at least this share of the likeliest one's probability
  double repetition_penalty =
      1;  // of tokens in the prompt or the answer: positive logits / p, negative ones * p
  double frequency_penalty = 0;  // times how often the token stands in the answer
  double presence_penalty = 0;   // once, if it stands in the answer

  bool penalizes() const {
    return repetition_penalty != 1 || frequency_penalty != 0 || presence_penalty != 0;
  }
};

/// What stands before the next token.
struct TokenHistory {
  std::unordered_map<TokenId, int64_t> prompt, answer;  // id -> how often
};

/// The tokens that may come, the likeliest first (ties: the lower id), with their probabilities. Throws Error
/// where a logit is no number. logits (V) are left as they are.
std::vector<std::pair<TokenId, double>> candidates(std::span<const float> logits,
                                                   const SamplingOptions& options,
                                                   const TokenHistory& history);

/// One of them by `uniform` in [0, 1).
TokenId sample(std::span<const float> logits, const SamplingOptions& options, const TokenHistory& history,
               double uniform);

/// log(sum(exp(logits))), in double.
double log_sum_exp(std::span<const float> logits);

}  // namespace llmtool
