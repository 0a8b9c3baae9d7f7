#include "llmtool/infer/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "llmtool/core/error.h"

namespace llmtool {

namespace {
using Candidate = std::pair<TokenId, double>;  // id and logit, then probability

void penalize(std::vector<Candidate>& all, const SamplingOptions& o, const TokenHistory& history) {
  const auto repeat = [&](TokenId id) {
    double& logit = all[static_cast<size_t>(id)].second;
    logit = logit > 0 ? logit / o.repetition_penalty : logit * o.repetition_penalty;
  };
  for (const auto& [id, count] : history.prompt) repeat(id);
  for (const auto& [id, count] : history.answer) {
    if (!history.prompt.contains(id)) repeat(id);
    all[static_cast<size_t>(id)].second -=
        o.frequency_penalty * static_cast<double>(count) + o.presence_penalty;
  }
}

bool likelier(const Candidate& a, const Candidate& b) {
  return a.second != b.second ? a.second > b.second : a.first < b.first;
}

void normalize(std::vector<Candidate>& list) {
  double total = 0;
  for (const Candidate& c : list) total += c.second;
  for (Candidate& c : list) c.second /= total;
}

/// The tokens that penalties, temperature and top-k leave, with their probabilities; in no order.
std::vector<Candidate> softened(std::span<const float> logits, const SamplingOptions& o,
                                const TokenHistory& history) {
  std::vector<Candidate> list(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i])) throw Error(cat("[sampler] the logit of token ", i, " is no number"));
    list[i] = {static_cast<TokenId>(i), logits[i]};
  }
  if (o.penalizes()) penalize(list, o, history);
  const Candidate best = *std::min_element(list.begin(), list.end(), likelier);
  if (o.temperature == 0) return {{best.first, 1.0}};
  if (o.top_k > 0 && o.top_k < static_cast<int64_t>(list.size())) {
    std::nth_element(list.begin(), list.begin() + o.top_k - 1, list.end(), likelier);
    list.resize(static_cast<size_t>(o.top_k));
  }
  for (Candidate& c : list) c.second = std::exp((c.second - best.second) / o.temperature);
  normalize(list);
  return list;
}

/// Sorts, after leaving out what neither top-p nor min-p can keep: a sort of a whole vocabulary costs more
/// than a small model's step. Below (1 - p) / n all n together do not reach the share that top-p drops.
void sort_eligible(std::vector<Candidate>& list, const SamplingOptions& o) {
  double most = 0;
  for (const Candidate& c : list) most = std::max(most, c.second);
  const double rare = o.top_p < 1 ? (1 - o.top_p) / static_cast<double>(list.size()) : 0;
  const double least = std::min(most, std::max(o.min_p * most, rare));
  std::erase_if(list, [&](const Candidate& c) { return c.second < least; });
  std::sort(list.begin(), list.end(), likelier);
}

/// The fewest of the sorted list whose probabilities reach p.
void keep_top_p(std::vector<Candidate>& list, double p) {
  double total = 0;
  size_t kept = 0;
  while (kept < list.size() && total < p) total += list[kept++].second;
  list.resize(std::max<size_t>(1, kept));
}
}  // namespace

double log_sum_exp(std::span<const float> logits) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double total = 0;
  for (const float x : logits) total += std::exp(x - most);
  return std::log(total) + most;
}

std::vector<Candidate> candidates(std::span<const float> logits, const SamplingOptions& o,
                                  const TokenHistory& history) {
  std::vector<Candidate> list = softened(logits, o, history);
  sort_eligible(list, o);
  if (o.top_p < 1) keep_top_p(list, o.top_p);
  normalize(list);
  return list;
}

TokenId sample(std::span<const float> logits, const SamplingOptions& o, const TokenHistory& history,
               double uniform) {
  const bool in_any_order = o.top_p >= 1 && o.min_p == 0;
  const std::vector<Candidate> list =
      in_any_order ? softened(logits, o, history) : candidates(logits, o, history);
  double total = 0;
  for (const Candidate& c : list) {
    total += c.second;
    if (uniform < total) return c.first;
  }
  return list.back().first;
}

}  // namespace llmtool
