#include "infer/filters.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace llmtool {

void apply_temperature(Shortlist& list, double temperature, double range, double exponent) {
  if (range > 0) {
    if (list.size() < 2) return;
    const double share = list.totals(true).entropy / std::log(static_cast<double>(list.size()));
    const double least = std::max(0.0, temperature - range), most = temperature + range;
    temperature = least + (most - least) * std::pow(std::max(0.0, share), exponent);
  }
  if (temperature == 0) return list.keep_likeliest(1);
  list.scale(1 / temperature);
}

void keep_top_p(Shortlist& list, double p) {
  const double log_sum = list.totals().log_sum;
  // Below (1 - p) / n all n together do not reach the share that is dropped: a sort of a whole vocabulary
  // costs more than a small model's step.
  list.keep_from(log_sum + std::log((1 - p) / static_cast<double>(list.size())));
  double reached = 0;
  size_t kept = 0;
  const auto wanting = [&] { return kept == 0 || (kept < list.size() && reached < p); };
  for (size_t sorted = 128; wanting(); sorted *= 4) {
    list.sort_first(sorted);
    const size_t end = std::min(sorted, list.size());
    while (kept < end && wanting()) reached += std::exp(list[kept++].logit - log_sum);
  }
  list.keep_first(kept);
}

void keep_typical(Shortlist& list, double p) {
  const Shortlist::Totals totals = list.totals(true);
  std::vector<std::pair<double, size_t>> off;  // how far a token's surprise is from the expected one; place
  off.reserve(list.size());
  for (size_t i = 0; i < list.size(); ++i)
    off.emplace_back(std::abs(totals.log_sum - list[i].logit - totals.entropy), i);
  double reached = 0;
  std::vector<size_t> kept;
  for (size_t sorted = 0; kept.size() < off.size() && reached < p;) {  // no more is sorted than is needed
    const auto from = off.begin() + static_cast<std::ptrdiff_t>(sorted);
    sorted = std::min(off.size(), std::max<size_t>(128, 4 * sorted));
    const auto to = off.begin() + static_cast<std::ptrdiff_t>(sorted);
    if (to != off.end()) std::nth_element(from, to - 1, off.end());
    std::sort(from, to);
    for (auto it = from; it != to && reached < p; ++it) {
      kept.push_back(it->second);
      reached += std::exp(list[it->second].logit - totals.log_sum);
    }
  }
  if (kept.empty()) kept.push_back(std::min_element(off.begin(), off.end())->second);
  list.keep_only(kept);
}

void keep_sigmas(Shortlist& list, double n) {
  double sum = 0, squares = 0;
  for (const Shortlist::Entry& e : list.entries()) sum += e.logit;
  const double mean = sum / static_cast<double>(list.size());
  for (const Shortlist::Entry& e : list.entries()) squares += (e.logit - mean) * (e.logit - mean);
  list.keep_from(list.greatest() - n * std::sqrt(squares / static_cast<double>(list.size())));
}

void drop_top(Shortlist& list, double threshold) {
  if (list.size() < 2) return;
  const double least = list.totals().log_sum + std::log(threshold);
  size_t above = 0;
  for (const Shortlist::Entry& e : list.entries()) above += e.logit >= least;
  if (above < 2) return;
  list.sort_first(above);
  list.drop_first(above - 1);
}

void keep_unsurprising(Shortlist& list, double bits) {
  list.keep_from(list.totals().log_sum - bits * std::log(2.0));
}

}  // namespace llmtool
