#include "llmtool/kernels/routing.h"

#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/parallel.h"
#include "kernels/simd.h"

namespace llmtool {

namespace {
/// The row's scores become probabilities.
void softmax_row(float* row, int64_t n) {
  const float most = *std::max_element(row, row + n);
  double total = 0;
  for (int64_t i = 0; i < n; ++i) total += row[i] = std::exp(row[i] - most);
  for (int64_t i = 0; i < n; ++i) row[i] = static_cast<float>(row[i] / total);
}
}  // namespace

void choose_experts(Exec& exec, Tensor scores, bool normalized, Tensor weights, Tensor experts) {
  if (exec.dry()) return;
  const int64_t E = scores.cols(), k = weights.cols();
  for_rows(exec, scores.rows(), 32 * E, [&](int64_t row) {
    float* const p = scores.f32() + row * E;
    softmax_row(p, E);
    std::vector<int32_t> order(static_cast<size_t>(E));
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + k, order.end(),
                      [&](int32_t a, int32_t b) { return p[a] != p[b] ? p[a] > p[b] : a < b; });
    float* const w = weights.f32() + row * k;
    float total = 0;
    for (int64_t j = 0; j < k; ++j) {
      static_cast<int32_t*>(experts.data)[row * k + j] = order[static_cast<size_t>(j)];
      total += w[j] = p[order[static_cast<size_t>(j)]];
    }
    for (int64_t j = 0; normalized && j < k; ++j) w[j] /= total;
  });
}

void choose_experts_backward(Exec& exec, Tensor probabilities, bool normalized, Tensor weights,
                             Tensor experts, Tensor dweights, Tensor dscores) {
  if (exec.dry()) return;
  const int64_t E = probabilities.cols(), k = weights.cols();
  for_rows(exec, probabilities.rows(), 8 * E, [&](int64_t row) {
    const float *const p = probabilities.f32() + row * E, *const w = weights.f32() + row * k,
                       *const dw = dweights.f32() + row * k;
    const auto* const chosen = static_cast<const int32_t*>(experts.data) + row * k;
    float* const d = dscores.f32() + row * E;
    double total = 1, shift = 0;  // weights are probabilities over `total`
    if (normalized) {
      total = 0;
      for (int64_t j = 0; j < k; ++j) total += p[chosen[j]], shift += static_cast<double>(dw[j]) * w[j];
    }
    std::fill_n(d, E, 0.0f);
    double mean = 0;
    for (int64_t j = 0; j < k; ++j) {
      const double dp = (dw[j] - shift) / total;
      d[chosen[j]] = static_cast<float>(dp);
      mean += dp * p[chosen[j]];
    }
    for (int64_t e = 0; e < E; ++e) d[e] = static_cast<float>(p[e] * (d[e] - mean));
  });
}

void combine_rows(Exec& exec, Tensor x, const int64_t* places, Tensor factors, int64_t k, Tensor y) {
  if (exec.dry()) return;
  const int64_t C = y.cols();
  for_rows(exec, y.rows(), k * C, [&](int64_t row) {
    float* const to = y.f32() + row * C;
    for (int64_t j = 0; j < k; ++j) {
      const float* const from = x.f32() + places[row * k + j] * C;
      const float factor = factors ? factors.f32()[row * k + j] : 1.0f;
      simd::for_lanes(C, [&](int64_t i, auto part) {
        const simd::Vec v = simd::load(from + i, part) * factor;
        simd::store(to + i, j == 0 ? v : simd::load(to + i, part) + v, part);
      });
    }
  });
}

void spread_rows(Exec& exec, Tensor x, const int64_t* rows, const float* factors, Tensor y) {
  if (exec.dry()) return;
  const int64_t C = y.cols();
  for_rows(exec, y.rows(), C, [&](int64_t row) {
    const float* const from = x.f32() + (rows ? rows[row] : row) * C;
    float* const to = y.f32() + row * C;
    simd::for_lanes(C, [&](int64_t i, auto part) {
      simd::store(to + i, simd::load(from + i, part) * factors[row], part);
    });
  });
}

void row_dots(Exec& exec, Tensor a, Tensor b, float* sums) {
  if (exec.dry()) return;
  const int64_t C = a.cols();
  for_rows(exec, a.rows(), C,
           [&](int64_t row) { sums[row] = simd::dot(a.f32() + row * C, b.f32() + row * C, C); });
}

void sigmoid(Exec& exec, Tensor gate) {
  if (exec.dry()) return;
  for_elements(exec, gate.size(), [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) gate.f32()[i] = 1.0f / (1.0f + std::exp(-gate.f32()[i]));
  });
}

}  // namespace llmtool
