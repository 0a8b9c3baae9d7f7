#include "infer/penalties.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "llmtool/infer/bad_texts.h"

namespace llmtool {

namespace {
using Counts = std::unordered_map<TokenId, int64_t>;

/// The last n tokens, or all (-1).
std::span<const TokenId> window(const TokenHistory& history, int64_t n) {
  const std::span<const TokenId> all(history.tokens);
  return n < 0 || n >= static_cast<int64_t>(all.size()) ? all : all.last(static_cast<size_t>(n));
}

void penalize(Shortlist& list, const SamplingOptions& o, const Counts& prompt, const Counts& answer) {
  if (o.repetition_penalty != 1) {
    for (const auto& [id, count] : prompt) list.repeat(id, o.repetition_penalty);
    for (const auto& [id, count] : answer) {
      if (!prompt.contains(id)) list.repeat(id, o.repetition_penalty);
    }
  }
  if (o.frequency_penalty == 0 && o.presence_penalty == 0) return;
  for (const auto& [id, count] : answer)
    list.add(id, -(o.frequency_penalty * static_cast<double>(count) + o.presence_penalty));
}

/// Whether `sequence` stands in `tokens` from `at` on.
bool stands(std::span<const TokenId> tokens, size_t at, const std::vector<TokenId>& sequence) {
  return sequence.size() <= tokens.size() - at &&
         std::equal(sequence.begin(), sequence.end(), tokens.begin() + static_cast<std::ptrdiff_t>(at));
}

/// How many tokens stand behind the last breaker.
size_t behind_breaker(std::span<const TokenId> tokens, const std::vector<std::vector<TokenId>>& breakers) {
  for (size_t at = tokens.size(); at-- > 0;) {
    size_t longest = 0;
    for (const auto& breaker : breakers) {
      if (stands(tokens, at, breaker)) longest = std::max(longest, breaker.size());
    }
    if (longest > 0) return tokens.size() - at - longest;
  }
  return tokens.size();
}

/// Of each place but the last, how many tokens up to it are those at the end: the Z-function of the reversed
/// tokens, in linear time.
std::vector<size_t> common_suffixes(std::span<const TokenId> tokens) {
  const size_t n = tokens.size();
  const auto back = [&](size_t i) { return tokens[n - 1 - i]; };
  std::vector<size_t> z(n, 0);
  for (size_t i = 1, left = 0, right = 0; i < n; ++i) {
    if (i < right) z[i] = std::min(right - i, z[i - left]);
    while (i + z[i] < n && back(z[i]) == back(i + z[i])) ++z[i];
    if (i + z[i] > right) left = i, right = i + z[i];
  }
  std::reverse(z.begin(), z.end());
  return z;
}
}  // namespace

void TokenHistory::read(std::span<const TokenId> prompt_ids) {
  for (const TokenId id : prompt_ids) ++prompt[id];
  tokens.insert(tokens.end(), prompt_ids.begin(), prompt_ids.end());
}

void TokenHistory::add(TokenId id) {
  ++answer[id];
  tokens.push_back(id);
}

void apply_bias(Shortlist& list, const SamplingOptions& o, const TokenHistory& history) {
  const std::span<const TokenId> tokens(history.tokens);
  for (const auto& [id, bias] : o.logit_bias) {
    if (bias == -std::numeric_limits<double>::infinity()) {
      list.rule_out(id);
    } else {
      list.add(id, bias);
    }
  }
  for (const auto& word : o.bad_words) {
    const size_t before = word.size() - 1;
    if (before <= tokens.size() &&
        std::equal(word.begin(), word.end() - 1, tokens.end() - static_cast<std::ptrdiff_t>(before)))
      list.rule_out(word.back());
  }
  if (o.bad_texts) list.rule_out(o.bad_texts->ending(tokens));
}

void apply_penalties(Shortlist& list, const SamplingOptions& o, const TokenHistory& history) {
  if (o.repeat_last_n < 0) return penalize(list, o, history.prompt, history.answer);
  Counts prompt, answer;
  size_t answered = 0;  // how many of the tokens are the answer's
  for (const auto& [id, count] : history.answer) answered += static_cast<size_t>(count);
  const auto last = window(history, o.repeat_last_n);
  for (size_t i = 0; i < last.size(); ++i) ++(i + answered < last.size() ? prompt : answer)[last[i]];
  penalize(list, o, prompt, answer);
}

void apply_dry(Shortlist& list, const SamplingOptions& o, const TokenHistory& history) {
  const std::span<const TokenId> tokens = window(history, o.dry_penalty_last_n);
  const auto allowed = static_cast<size_t>(o.dry_allowed_length);
  if (tokens.size() <= allowed) return;
  const size_t reach = behind_breaker(tokens, o.dry_breakers);
  if (reach < allowed) return;
  const std::vector<size_t> repeated = common_suffixes(tokens);
  std::unordered_map<TokenId, size_t> longest;  // by the token that went on
  for (size_t at = 0; at + 1 < tokens.size(); ++at) {
    const size_t n = std::min(repeated[at], reach);
    if (n >= allowed) longest[tokens[at + 1]] = std::max(longest[tokens[at + 1]], n);
  }
  for (const auto& breaker : o.dry_breakers) {
    if (breaker.size() == 1) longest.erase(breaker[0]);
  }
  for (const auto& [id, n] : longest) {
    const double factor = std::pow(o.dry_base, static_cast<double>(n - allowed));
    list.add(id, -std::min(1e30, o.dry_multiplier * factor));
  }
}

std::vector<std::vector<TokenId>> breaker_sequences(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<std::vector<TokenId>> found;
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.is_special(id)) continue;
    const std::string piece = tokenizer.surface(id, false);
    if (piece.find(text) != std::string::npos) {
      found.push_back({id});
      continue;
    }
    for (size_t n = std::min(piece.size(), text.size() - 1); n > 0; --n) {
      if (!piece.ends_with(std::string_view(text).substr(0, n))) continue;
      std::vector<TokenId> sequence = tokenizer.encode_rest(std::string_view(text).substr(n));
      sequence.insert(sequence.begin(), id);
      found.push_back(std::move(sequence));
    }
  }
  return found;
}

}  // namespace llmtool
