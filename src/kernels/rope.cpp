#include "llmtool/kernels/rope.h"

#include <cmath>

#include "kernels/parallel.h"
#include "kernels/simd.h"

namespace llmtool {

void rope_table(Exec& exec, const int32_t* positions, double theta, Tensor table) {
  if (exec.dry()) return;
  const int64_t dim = table.cols(), half = dim / 2;
  for_rows(exec, table.rows(), 100 * half, [&](int64_t row) {
    float* const values = table.f32() + row * dim;
    for (int64_t i = 0; i < half; ++i) {
      const double exponent = static_cast<double>(2 * i) / static_cast<double>(dim);
      const float frequency = static_cast<float>(1.0 / std::pow(theta, exponent));
      const float angle = static_cast<float>(positions[row]) * frequency;
      values[i] = static_cast<float>(std::cos(static_cast<double>(angle)));
      values[half + i] = static_cast<float>(std::sin(static_cast<double>(angle)));
    }
  });
}

void rope(Exec& exec, Tensor table, float* x, int64_t rows, int64_t ld, int64_t heads, bool backward) {
  if (exec.dry()) return;
  const int64_t dim = table.cols(), half = dim / 2, n = table.rows();
  const float sign = backward ? -1.0f : 1.0f;
  for_rows(exec, rows, heads * dim, [&](int64_t row) {
    const float *cos = table.f32() + row % n * dim, *sin = cos + half;
    for (float* v = x + row * ld; v < x + row * ld + heads * dim; v += dim) {
      simd::for_lanes(half, [&](int64_t i, auto part) {
        const simd::Vec a = simd::load(v + i, part), b = simd::load(v + half + i, part);
        const simd::Vec c = simd::load(cos + i, part), s = simd::load(sin + i, part) * sign;
        simd::store(v + i, a * c - b * s, part);
        simd::store(v + half + i, b * c + a * s, part);
      });
    }
  });
}

}  // namespace llmtool
