#pragma once
// How sure one can be of counted answers.

#include <cstdint>

namespace llmtool {

struct Interval {
  double low = 0, high = 1;
};

/// Wilson's score interval of 95 % for a share of which `hits` of `total` were counted (E. B. Wilson, 1927);
/// 0 to 1 where nothing was.
Interval wilson_interval(int64_t hits, int64_t total);

/// The two-sided p of McNemar's exact test (Q. McNemar, 1947): how likely two that are as good as each other
/// would differ at least so much, of the rows where one alone is right. 1 where there is none.
double mcnemar_p(int64_t only_first, int64_t only_second);

}  // namespace llmtool
