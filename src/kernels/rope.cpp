#include "llmtool/kernels/rope.h"

#include <cmath>

#include "kernels/parallel.h"
#include "kernels/simd.h"

namespace llmtool {

RopeTable::RopeTable(int64_t positions, int64_t head_dim, double theta)
    : dim_(head_dim), values_(static_cast<size_t>(positions * head_dim)) {
  const int64_t half = head_dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    const double exponent = static_cast<double>(2 * i) / static_cast<double>(head_dim);
    const float frequency = static_cast<float>(1.0 / std::pow(theta, exponent));
    for (int64_t p = 0; p < positions; ++p) {
      const float angle = static_cast<float>(p) * frequency;
      values_[p * dim_ + i] = static_cast<float>(std::cos(static_cast<double>(angle)));
      values_[p * dim_ + half + i] = static_cast<float>(std::sin(static_cast<double>(angle)));
    }
  }
}

void rope(Exec& exec, const RopeTable& table, float* x, int64_t rows, int64_t ld, int64_t heads,
          const int32_t* positions, bool backward) {
  if (exec.dry()) return;
  const int64_t dim = table.head_dim(), half = dim / 2;
  const float sign = backward ? -1.0f : 1.0f;
  for_rows(exec, rows, heads * dim, [&](int64_t row) {
    const float *cos = table.cos(positions[row]), *sin = table.sin(positions[row]);
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
