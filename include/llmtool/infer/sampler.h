#pragma once
// Sampler: the choice of the next token.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "llmtool/text/tokenizer.h"

namespace llmtool {

class BadTexts;

/// What stands between logits and the next token. Biases and bad words come first, then the samplers in the
/// order of `samplers`; one whose settings are the defaults below does nothing. Definitions are llama.cpp's
/// where it has the sampler (and transformers', where that has it, too), with three exceptions: the default
/// order has the temperature in front of the filters, as transformers does; frequency and presence count in
/// the answer alone, as OpenAI's do; and mirostat adds itself behind the filters instead of replacing them.
struct SamplingOptions {
  double temperature = 0.8;  // 0: the likeliest token
  /// Dynamic temperature: temperature + range * (2 h^exponent - 1), at least 0, where h in [0, 1] is the
  /// entropy as a share of the greatest that so many tokens can have.
  double dynatemp_range = 0, dynatemp_exponent = 1;
  int64_t top_k = 0;     // the k likeliest; 0: all
  double top_p = 1;      // the fewest that together reach p (Holtzman et al. 2020)
  double min_p = 0;      // those with at least this share of the likeliest's probability (Nguyen et al. 2024)
  double typical_p = 1;  // the fewest, those nearest to the expected surprise first, that together reach p
                         // (Meister et al. 2023)
  double top_n_sigma = 0;  // logits within n standard deviations of the largest (Tang et al. 2024); 0: all
  /// XTC ("exclude top choices"): with this probability all that reach the threshold go but the last of them.
  double xtc_probability = 0, xtc_threshold = 0.1;
  /// Mirostat 2 (Basu et al. 2021): tokens of more surprise (-log2 p) than a bound go; the bound starts at 2
  /// tau and after each choice moves by eta towards a surprise of tau.
  int64_t mirostat = 0;  // 0 or 2
  double mirostat_tau = 5, mirostat_eta = 0.1;

  double repetition_penalty = 1;  // of tokens seen: positive logits / p, others * p (Keskar et al. 2019)
  double frequency_penalty = 0;   // times how often the token stands in the answer
  double presence_penalty = 0;    // once, if it stands in the answer
  int64_t repeat_last_n = -1;     // so many of the last tokens count for these three; -1: all
  /// DRY ("don't repeat yourself"): a token that would lengthen a repetition of n >= allowed_length tokens
  /// loses multiplier * base^(n - allowed_length). A repetition does not reach beyond a breaker,
  /// and a breaker of one token loses nothing.
  double dry_multiplier = 0, dry_base = 1.75;
  int64_t dry_allowed_length = 2, dry_penalty_last_n = -1;  // of the last tokens; -1: all
  std::vector<std::vector<TokenId>> dry_breakers = {};

  std::vector<std::pair<TokenId, double>> logit_bias = {};  // added; -infinity: never
  /// Sequences that never come: the last token is ruled out where the others stand.
  std::vector<std::vector<TokenId>> bad_words = {};
  /// Texts that never come, in whichever tokens: those that would end one go. The prompt may begin it.
  std::shared_ptr<const BadTexts> bad_texts = {};

  std::vector<std::string> samplers = default_samplers();

  /// penalties, dry, top_n_sigma, temperature, top_k, typical_p, top_p, min_p, xtc, mirostat.
  static const std::vector<std::string>& default_samplers();
  /// Throws UsageError on a name that is unknown or stands twice, and on settings of a sampler that is left
  /// out.
  void check() const;
  /// The samplers that do something, in their order with their settings: "temperature 0.8, top_k 40".
  std::string description() const;
  /// Whether the prompt's tokens matter.
  bool looks_back() const;
};

/// What stands before the next token.
struct TokenHistory {
  std::unordered_map<TokenId, int64_t> prompt, answer;  // id -> how often
  std::vector<TokenId> tokens = {};                     // of both, as they came
  std::optional<double> mirostat_bound = {};            // of the next token; not set: 2 tau

  void read(std::span<const TokenId> prompt_ids);
  void add(TokenId id);  // to the answer
};

/// The tokens that may come, the likeliest first (ties: the lower id), with their probabilities; a logit of
/// -infinity rules its token out. `uniform` in [0, 1) decides whether XTC acts. Throws Error where a logit is
/// no number, or no token is left. logits (V) are left as they are.
std::vector<std::pair<TokenId, double>> candidates(std::span<const float> logits,
                                                   const SamplingOptions& options,
                                                   const TokenHistory& history, double uniform = 0);

/// One of them by `uniform` in [0, 1): taken from their probabilities one behind the other, in the order of
/// ids where all may come, else the likeliest first. Moves mirostat's bound.
TokenId sample(std::span<const float> logits, const SamplingOptions& options, TokenHistory& history,
               double uniform);

/// The same of a history that is not kept.
inline TokenId sample(std::span<const float> logits, const SamplingOptions& options, TokenHistory&& history,
                      double uniform) {
  return sample(logits, options, history, uniform);
}

/// log(sum(exp(logits))), in double.
double log_sum_exp(std::span<const float> logits);

/// The ways in which `text` can stand in a list of ids, to be looked for there: a token that contains it, or
/// one that ends with its beginning, and the tokens of the rest.
std::vector<std::vector<TokenId>> breaker_sequences(const Tokenizer& tokenizer, const std::string& text);

}  // namespace llmtool
