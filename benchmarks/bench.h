#pragma once
// What the benchmarks share: a clock, a median.

#include <algorithm>
#include <chrono>
#include <vector>

namespace llmtool::bench {

inline double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// Seconds that `work` takes.
template <class Work>
double seconds(Work work) {
  const double began = now();
  work();
  return now() - began;
}

}  // namespace llmtool::bench
