#include "llmtool/records/statistics.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace llmtool {

Interval wilson_interval(int64_t hits, int64_t total) {
  if (total <= 0) return {};
  constexpr double kZ = 1.959963984540054;  // 97.5 % of a normal variable are below
  const auto n = static_cast<double>(total);
  const double p = static_cast<double>(hits) / n, z = kZ * kZ / n;
  const double middle = (p + z / 2) / (1 + z), half = kZ * std::sqrt(p * (1 - p) / n + z / (4 * n)) / (1 + z);
  // At the ends the exact value is 0 or 1, which rounding misses.
  return {hits == 0 ? 0 : std::max(0.0, middle - half), hits == total ? 1 : std::min(1.0, middle + half)};
}

double mcnemar_p(int64_t only_first, int64_t only_second) {
  const auto n = static_cast<double>(only_first + only_second);
  auto k = static_cast<double>(std::min(only_first, only_second));
  // Twice the binomial tail up to k; each term from the one above it.
  double term =
      std::exp(std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1) - n * std::numbers::ln2);
  double tail = 0;
  for (; k >= 0 && term > tail * 1e-17; --k) {
    tail += term;
    term *= k / (n - k + 1);
  }
  return std::min(1.0, 2 * tail);
}

}  // namespace llmtool
