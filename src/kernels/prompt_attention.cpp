#include "llmtool/kernels/prompt_attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/parallel.h"

namespace llmtool {

namespace {
float dot(const float* a, const float* b, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

void add(float factor, const float* x, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] += factor * x[i];
}

/// p (P) = the softmax of a query's products with the keys of its head.
void probabilities(const PromptAttention& in, const float* q, const float* k, float* p) {
  float most = -std::numeric_limits<float>::infinity(), sum = 0;
  for (int64_t j = 0; j < in.P; ++j) {
    p[j] = in.scale * dot(q, k + j * in.kv_stride, in.D);
    most = std::max(most, p[j]);
  }
  for (int64_t j = 0; j < in.P; ++j) sum += p[j] = std::exp(p[j] - most);
  for (int64_t j = 0; j < in.P; ++j) p[j] /= sum;
}
}  // namespace

void prompt_attention(Exec& exec, const PromptAttention& in, float gate, float* out) {
  if (exec.dry()) return;
  const int64_t group = in.H / in.K;
  for_row_groups(
      exec, in.N, rows_per_task(2 * in.H * in.P * in.D), [&](int64_t first, int64_t last, int worker) {
        auto* const p =
            static_cast<float*>(exec.pool.scratch(worker, static_cast<size_t>(in.P) * sizeof(float)));
        for (int64_t row = first; row < last; ++row) {
          for (int64_t h = 0; h < in.H; ++h) {
            const int64_t at = h / group * in.D;
            probabilities(in, in.q + row * in.q_stride + h * in.D, in.k + at, p);
            float* const y = out + (row * in.H + h) * in.D;
            for (int64_t j = 0; j < in.P; ++j) add(gate * p[j], in.v + j * in.kv_stride + at, y, in.D);
          }
        }
      });
}

double prompt_attention_backward(Exec& exec, const PromptAttention& in, float gate, const float* dout,
                                 float* dq, float* dk, float* dv) {
  ArenaScope scope(exec.scratch);
  const int64_t group = in.H / in.K, each = in.P * in.D;
  // A task has a head of queries; what the heads of a group add to their keys is summed behind.
  const Tensor dkeys = exec.scratch.take({in.H, each}), dvalues = exec.scratch.take({in.H, each});
  std::vector<double> dgates(static_cast<size_t>(in.H));
  if (exec.dry()) return 0;
  exec.pool.run(in.H, [&](int64_t h, int worker) {
    auto* const p =
        static_cast<float*>(exec.pool.scratch(worker, static_cast<size_t>(2 * in.P) * sizeof(float)));
    float *const dp = p + in.P, *const dkh = dkeys.f32() + h * each, *const dvh = dvalues.f32() + h * each;
    std::fill_n(dkh, each, 0.0f);
    std::fill_n(dvh, each, 0.0f);
    const int64_t at = h / group * in.D;
    for (int64_t row = 0; row < in.N; ++row) {
      const float* const q = in.q + row * in.q_stride + h * in.D;
      const float* const dy = dout + (row * in.H + h) * in.D;
      probabilities(in, q, in.k + at, p);
      float mean = 0;
      for (int64_t j = 0; j < in.P; ++j) {
        dp[j] = dot(dy, in.v + j * in.kv_stride + at, in.D);
        mean += p[j] * dp[j];
        add(gate * p[j], dy, dvh + j * in.D, in.D);
      }
      dgates[static_cast<size_t>(h)] += mean;
      for (int64_t j = 0; j < in.P; ++j) {
        const float ds = in.scale * gate * p[j] * (dp[j] - mean);
        add(ds, in.k + j * in.kv_stride + at, dq + row * in.q_stride + h * in.D, in.D);
        add(ds, q, dkh + j * in.D, in.D);
      }
    }
  });
  for (int64_t kv = 0; kv < in.K; ++kv) {
    for (int64_t j = 0; j < in.P; ++j) {
      float *const to_k = dk + j * in.kv_stride + kv * in.D, *const to_v = dv + j * in.kv_stride + kv * in.D;
      std::fill_n(to_k, in.D, 0.0f);
      std::fill_n(to_v, in.D, 0.0f);
      for (int64_t h = kv * group; h < (kv + 1) * group; ++h) {
        add(1, dkeys.f32() + h * each + j * in.D, to_k, in.D);
        add(1, dvalues.f32() + h * each + j * in.D, to_v, in.D);
      }
    }
  }
  double total = 0;
  for (const double d : dgates) total += d;
  return total;
}

}  // namespace llmtool
