#include "llmtool/kernels/optimizer.h"

#include <cmath>
#include <vector>

#include "kernels/parallel.h"

namespace llmtool {

void adamw(Exec& exec, const AdamWStep& s, float* p, const float* g, float* m, float* v, int64_t n) {
  const double correction1 = 1.0 - std::pow(s.beta1, static_cast<double>(s.step));
  const double correction2 = 1.0 - std::pow(s.beta2, static_cast<double>(s.step));
  const float keep = static_cast<float>(1.0 - s.learning_rate * s.weight_decay);
  const float rate = static_cast<float>(s.learning_rate / correction1);
  const float root = static_cast<float>(1.0 / std::sqrt(correction2)), eps = static_cast<float>(s.eps);
  const float b1 = static_cast<float>(s.beta1), c1 = static_cast<float>(1.0 - s.beta1);
  const float b2 = static_cast<float>(s.beta2), c2 = static_cast<float>(1.0 - s.beta2);
  const float gradient_scale = static_cast<float>(s.gradient_scale);
  for_elements(exec, n, [&](int64_t first, int64_t last) {
#pragma GCC ivdep
    for (int64_t i = first; i < last; ++i) {
      const float gi = g[i] * gradient_scale;
      const float mi = b1 * m[i] + c1 * gi, vi = b2 * v[i] + c2 * gi * gi;
      m[i] = mi;
      v[i] = vi;
      p[i] = p[i] * keep - rate * mi / (std::sqrt(vi) * root + eps);
    }
  });
}

double sum_of_squares(Exec& exec, const float* x, int64_t n) {
  constexpr int64_t kGroup = 16384;
  std::vector<double> partial((n + kGroup - 1) / kGroup);
  for_row_groups(exec, n, kGroup, [&](int64_t first, int64_t last, int) {
    double sums[8] = {};
    int64_t i = first;
    for (; i + 8 <= last; i += 8) {
      for (int j = 0; j < 8; ++j) sums[j] += static_cast<double>(x[i + j]) * x[i + j];
    }
    for (; i < last; ++i) sums[0] += static_cast<double>(x[i]) * x[i];
    partial[first / kGroup] =
        ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
  });
  double total = 0;
  for (const double sum : partial) total += sum;
  return total;
}

void fill_zero(Exec& exec, Tensor x) {
  if (exec.dry()) return;
  for_elements(exec, x.size(),
               [&](int64_t first, int64_t last) { std::fill(x.f32() + first, x.f32() + last, 0.0f); });
}

}  // namespace llmtool
