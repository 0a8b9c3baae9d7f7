#include "llmtool/kernels/norm.h"

#include "kernels/parallel.h"
#include "kernels/simd.h"

namespace llmtool {

namespace {
using simd::Vec;

struct RowStats {
  float mean, rstd;
};

/// Two passes, so that a large mean does not drown the variance.
RowStats row_stats(const NormWeights& w, const float* x, int64_t C) {
  float mean = 0;
  if (w.kind == NormKind::layer) {
    Vec total{};
    simd::for_lanes(C, [&](int64_t i, auto part) { total += simd::load(x + i, part); });
    mean = simd::sum(total) / static_cast<float>(C);
  }
  Vec squares{};
  int64_t i = 0;
  for (; i + simd::kLanes <= C; i += simd::kLanes) {
    const Vec d = simd::load(x + i) - mean;
    squares += d * d;
  }
  float rest = 0;
  for (; i < C; ++i) rest += (x[i] - mean) * (x[i] - mean);
  const double variance = (static_cast<double>(simd::sum(squares)) + rest) / static_cast<double>(C);
  return {mean, static_cast<float>(1.0 / std::sqrt(variance + w.eps))};
}

void norm_row(const NormWeights& w, const float* x, float* y, int64_t C) {
  const RowStats s = row_stats(w, x, C);
  const float *weight = w.weight.f32(), *bias = w.bias.f32();
  simd::for_lanes(C, [&](int64_t i, auto part) {
    Vec v = (simd::load(x + i, part) - s.mean) * s.rstd * (simd::load(weight + i, part) + w.offset);
    if (bias) v += simd::load(bias + i, part);
    simd::store(y + i, v, part);
  });
}

/// Adds the row's gradient to dx and its share of the weights' to dweight and dbias (where not null).
void backward_row(const NormWeights& w, const float* x, const float* dy, float* dx, float* dweight,
                  float* dbias, int64_t C) {
  const RowStats s = row_stats(w, x, C);
  const float* weight = w.weight.f32();
  Vec sum_g{}, sum_gx{};
  simd::for_lanes(C, [&](int64_t i, auto part) {
    const Vec d = simd::load(dy + i, part), xhat = (simd::load(x + i, part) - s.mean) * s.rstd;
    const Vec g = d * (simd::load(weight + i, part) + w.offset);
    sum_g += g;
    sum_gx += g * xhat;  // lanes beyond the row: g is 0
    if (dweight) simd::store(dweight + i, simd::load(dweight + i, part) + d * xhat, part);
    if (dbias) simd::store(dbias + i, simd::load(dbias + i, part) + d, part);
  });
  const float mean_g = w.kind == NormKind::layer ? simd::sum(sum_g) / static_cast<float>(C) : 0.0f;
  const float mean_gx = simd::sum(sum_gx) / static_cast<float>(C);
  simd::for_lanes(C, [&](int64_t i, auto part) {
    const Vec xhat = (simd::load(x + i, part) - s.mean) * s.rstd;
    const Vec g = simd::load(dy + i, part) * (simd::load(weight + i, part) + w.offset);
    simd::store(dx + i, simd::load(dx + i, part) + (g - mean_g - xhat * mean_gx) * s.rstd, part);
  });
}
}  // namespace

void norm(Exec& exec, const NormWeights& w, Tensor x, Tensor y) {
  if (exec.dry()) return;
  const int64_t C = x.cols();
  for_rows(exec, x.rows(), C, [&](int64_t row) { norm_row(w, x.f32() + row * C, y.f32() + row * C, C); });
}

void norm_backward(Exec& exec, const NormWeights& w, Tensor x, Tensor dy, Tensor dx, Tensor dweight,
                   Tensor dbias) {
  // Each group of rows sums the weights' gradients into a partial of its own; these are then added in order.
  constexpr int64_t kRows = 64;
  const int64_t C = x.cols(), groups = (x.rows() + kRows - 1) / kRows;
  ArenaScope scope(exec.scratch);
  float* const partial = exec.scratch.floats(groups * 2 * C);
  if (exec.dry()) return;
  for_row_groups(exec, x.rows(), kRows, [&](int64_t first, int64_t last, int) {
    float* const sums = partial + first / kRows * 2 * C;
    std::fill_n(sums, 2 * C, 0.0f);
    for (int64_t row = first; row < last; ++row) {
      backward_row(w, x.f32() + row * C, dy.f32() + row * C, dx.f32() + row * C, dweight ? sums : nullptr,
                   dbias ? sums + C : nullptr, C);
    }
  });
  for (int64_t g = 0; g < groups; ++g) {
    const float* sums = partial + g * 2 * C;
    for (int64_t i = 0; dweight && i < C; ++i) dweight.f32()[i] += sums[i];
    for (int64_t i = 0; dbias && i < C; ++i) dbias.f32()[i] += sums[C + i];
  }
}

}  // namespace llmtool
