#include "llmtool/kernels/cross_entropy.h"

#include <cmath>

#include "kernels/parallel.h"
#include "kernels/simd.h"

namespace llmtool {

namespace {
using simd::Vec;

float row_maximum(const float* x, int64_t n) {
  Vec most = simd::broadcast(x[0]);
  int64_t i = 0;
  for (; i + simd::kLanes <= n; i += simd::kLanes) most = simd::max(most, simd::load(x + i));
  float m = simd::largest(most);
  for (; i < n; ++i) m = std::max(m, x[i]);
  return m;
}

/// The sum of exp(x - shift), which replaces x where `keep`. Summed in double over blocks, as V may be large.
double exponentials(float* x, int64_t n, float shift, bool keep) {
  constexpr int64_t kBlock = 1024;
  double total = 0;
  for (int64_t first = 0; first < n; first += kBlock) {
    Vec sum{};
    float rest = 0;
    simd::for_lanes(std::min(kBlock, n - first), [&](int64_t i, auto part) {
      const Vec e = simd::exp(simd::load(x + first + i, part) - shift);
      if (keep) simd::store(x + first + i, e, part);
      if constexpr (std::is_same_v<decltype(part), simd::Full>) {
        sum += e;
      } else {
        for (int64_t lane = 0; lane < part.n; ++lane) rest += e[lane];
      }
    });
    total += static_cast<double>(simd::sum(sum)) + rest;
  }
  return total;
}

double sum_of(const float* x, int64_t n) {
  double total = 0;
  for (int64_t i = 0; i < n; ++i) total += x[i];
  return total;
}

double loss_row(float* x, int64_t V, int32_t target, const CrossEntropy& terms, bool gradient) {
  if (target < 0) {
    if (gradient) std::fill_n(x, V, 0.0f);
    return 0;
  }
  const float most = row_maximum(x, V);
  const double at_target = x[target], smoothing = terms.label_smoothing;
  const double mean = smoothing > 0 ? sum_of(x, V) / static_cast<double>(V) : 0;
  const double weight = terms.class_weights ? terms.class_weights[target] : 1.0, scale = terms.scale * weight;
  const double sum = exponentials(x, V, most, gradient);
  const double log_z = std::log(sum) + most;
  if (gradient) {
    const float factor = static_cast<float>(scale * (1.0 + 2.0 * terms.z_loss * log_z) / sum);
    const float share = static_cast<float>(scale * smoothing / static_cast<double>(V));
    simd::for_lanes(
        V, [&](int64_t i, auto part) { simd::store(x + i, simd::load(x + i, part) * factor - share, part); });
    x[target] -= static_cast<float>(scale * (1 - smoothing));
  }
  return weight * (log_z - (1 - smoothing) * at_target - smoothing * mean + terms.z_loss * log_z * log_z);
}
}  // namespace

void cross_entropy(Exec& exec, Tensor logits, const int32_t* targets, const CrossEntropy& terms,
                   bool gradient, double* losses) {
  if (exec.dry()) return;
  const int64_t V = logits.cols();
  for_rows(exec, logits.rows(), 4 * V, [&](int64_t row) {
    losses[row] = loss_row(logits.f32() + row * V, V, targets[row], terms, gradient);
  });
}

}  // namespace llmtool
