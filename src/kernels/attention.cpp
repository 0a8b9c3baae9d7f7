#include "llmtool/kernels/attention.h"

#include <cmath>
#include <limits>

#include "kernels/parallel.h"
#include "kernels/simd.h"
#include "llmtool/kernels/matmul.h"

namespace llmtool {

namespace {
using simd::Vec;

constexpr int64_t kQueries = 72;  // rows of a tile: a multiple of the matrix product's
constexpr int64_t kKeys = 128;    // columns of a tile
constexpr float kLowest = -std::numeric_limits<float>::infinity();

int64_t tile_scratch(int64_t D) {
  return std::max({matmul_tile_scratch(kQueries, kKeys, D), matmul_tile_scratch(kQueries, D, kKeys),
                   matmul_tile_scratch(kKeys, D, kQueries)});
}

/// The pointers of one head of one sequence.
struct Head {
  MatrixView q, k, v;
  uint64_t first_draw;  // of the dropout mask: element (i, j) draws number first_draw + i * S + j
  int64_t out_offset, out_stride;
};

Head head_of(const AttentionInput& in, int64_t b, int64_t h) {
  const int64_t kv = b * in.S * in.kv_stride + h / in.group() * in.D;
  return {{in.q + b * in.T * in.q_stride + h * in.D, in.q_stride, 1},
          {in.k + kv, in.kv_stride, 1},
          {in.v + kv, in.kv_stride, 1},
          static_cast<uint64_t>((b * in.H + h) * in.T * in.S),
          (b * in.T * in.H + h) * in.D,
          in.H * in.D};
}

MatrixView rows_from(MatrixView m, int64_t row) {
  return {m.data + row * m.row_stride, m.row_stride, m.col_stride};
}

/// Turns the first `valid` scores of a row into exp(score * scale - shift), the others into 0; returns their
/// sum.
float exponentials(float* row, int64_t valid, int64_t width, float scale, float shift) {
  Vec sum{};
  float rest = 0;
  simd::for_lanes(valid, [&](int64_t j, auto part) {
    const Vec e = simd::exp(simd::load(row + j, part) * scale - shift);
    simd::store(row + j, e, part);
    if constexpr (std::is_same_v<decltype(part), simd::Full>) {
      sum += e;
    } else {
      for (int64_t lane = 0; lane < part.n; ++lane) rest += e[lane];
    }
  });
  std::fill(row + valid, row + width, 0.0f);
  return simd::sum(sum) + rest;
}

float largest_score(const float* row, int64_t valid) {
  float most = kLowest;
  int64_t j = 0;
  if (valid >= simd::kLanes) {
    Vec best = simd::load(row);
    for (j = simd::kLanes; j + simd::kLanes <= valid; j += simd::kLanes)
      best = simd::max(best, simd::load(row + j));
    most = simd::largest(best);
  }
  for (; j < valid; ++j) most = std::max(most, row[j]);
  return most;
}

void scale_row(float* row, int64_t n, float factor) {
  simd::for_lanes(
      n, [&](int64_t i, auto part) { simd::store(row + i, simd::load(row + i, part) * factor, part); });
}

void drop(float* row, int64_t n, const Dropout& dropout, uint64_t first) {
  for (int64_t j = 0; j < n; ++j) row[j] *= dropout.factor(first + j);
}

/// Output rows [i0, i1) of one head.
void forward_tile(const AttentionInput& in, const Head& head, int64_t i0, int64_t i1, float* out, float* lse,
                  float* scratch) {
  const int64_t rows = i1 - i0, past = in.S - in.T;
  float* const scores = scratch;
  float* const product_scratch = scratch + kQueries * kKeys;
  float most[kQueries], sums[kQueries];
  std::fill_n(most, rows, kLowest);
  std::fill_n(sums, rows, 0.0f);
  for (int64_t j0 = 0; j0 < past + i1; j0 += kKeys) {
    const int64_t cols = std::min(kKeys, past + i1 - j0);
    matmul_tile(rows, cols, in.D, rows_from(head.q, i0), rows_from(head.k, j0).transposed(), scores, cols,
                Write::set, product_scratch);
    for (int64_t r = 0; r < rows; ++r) {
      float* const row = scores + r * cols;
      const int64_t valid = std::clamp<int64_t>(past + i0 + r + 1 - j0, 0, cols);
      const float shift = std::max(most[r], largest_score(row, valid) * in.scale);
      const float correction = std::exp(most[r] - shift);
      sums[r] = sums[r] * correction + exponentials(row, valid, cols, in.scale, shift);
      if (j0 > 0 && correction != 1.0f) scale_row(out + (i0 + r) * head.out_stride, in.D, correction);
      if (in.dropout) drop(row, valid, in.dropout, head.first_draw + (i0 + r) * in.S + j0);
      most[r] = shift;
    }
    matmul_tile(rows, in.D, cols, {scores, cols, 1}, rows_from(head.v, j0), out + i0 * head.out_stride,
                head.out_stride, j0 > 0 ? Write::add : Write::set, product_scratch);
  }
  for (int64_t r = 0; r < rows; ++r) {
    scale_row(out + (i0 + r) * head.out_stride, in.D, 1.0f / sums[r]);
    if (lse) lse[i0 + r] = most[r] + std::log(sums[r]);
  }
}

float dot(const float* a, const float* b, int64_t n) {
  Vec total{};
  simd::for_lanes(n,
                  [&](int64_t i, auto part) { total += simd::load(a + i, part) * simd::load(b + i, part); });
  return simd::sum(total);
}

struct BackwardHead {
  const float *out, *dout, *lse;  // of the head; rows as Head says
  float *dq, *dk, *dv;
};

/// One tile of probabilities (rows i0.., keys j0..) recomputed, and its share of dq, dk and dv.
void backward_tile(const AttentionInput& in, const Head& head, const BackwardHead& g, int64_t i0,
                   int64_t rows, int64_t j0, int64_t cols, float* scratch) {
  float* const p = scratch;
  float* const dp = p + kQueries * kKeys;
  float* const product_scratch = dp + kQueries * kKeys;
  const MatrixView q = rows_from(head.q, i0), k = rows_from(head.k, j0), v = rows_from(head.v, j0);
  const MatrixView dout{g.dout + i0 * head.out_stride, head.out_stride, 1};
  matmul_tile(rows, cols, in.D, q, k.transposed(), p, cols, Write::set, product_scratch);
  matmul_tile(rows, cols, in.D, dout, v.transposed(), dp, cols, Write::set, product_scratch);
  for (int64_t r = 0; r < rows; ++r) {
    float *const pr = p + r * cols, *const dr = dp + r * cols;
    const int64_t valid = std::clamp<int64_t>(i0 + r + 1 - j0, 0, cols), at = (i0 + r) * head.out_stride;
    exponentials(pr, valid, cols, in.scale, g.lse[i0 + r]);
    const float delta = dot(g.out + at, g.dout + at, in.D);
    const uint64_t draw = head.first_draw + (i0 + r) * in.S + j0;
    if (in.dropout) drop(dr, valid, in.dropout, draw);
    simd::for_lanes(cols, [&](int64_t j, auto part) {
      simd::store(dr + j, simd::load(pr + j, part) * (simd::load(dr + j, part) - delta) * in.scale, part);
    });
    if (in.dropout) drop(pr, valid, in.dropout, draw);
  }
  matmul_tile(cols, in.D, rows, MatrixView{p, cols, 1}.transposed(), dout, g.dv + j0 * in.kv_stride,
              in.kv_stride, Write::add, product_scratch);
  matmul_tile(cols, in.D, rows, MatrixView{dp, cols, 1}.transposed(), q, g.dk + j0 * in.kv_stride,
              in.kv_stride, Write::add, product_scratch);
  matmul_tile(rows, in.D, cols, {dp, cols, 1}, k, g.dq + i0 * in.q_stride, in.q_stride,
              j0 > 0 ? Write::add : Write::set, product_scratch);
}
}  // namespace

void attention(Exec& exec, const AttentionInput& in, float* out, float* lse) {
  if (exec.dry()) return;
  const int64_t tiles = (in.T + kQueries - 1) / kQueries;
  const size_t bytes = (kQueries * kKeys + tile_scratch(in.D)) * sizeof(float);
  // The long tiles (late queries) first, so that the short ones fill the gaps at the end.
  exec.pool.run(in.B * in.H * tiles, [&](int64_t task, int worker) {
    const int64_t tile = tiles - 1 - task / (in.B * in.H), bh = task % (in.B * in.H);
    const Head head = head_of(in, bh / in.H, bh % in.H);
    forward_tile(in, head, tile * kQueries, std::min(in.T, (tile + 1) * kQueries), out + head.out_offset,
                 lse ? lse + bh * in.T : nullptr, static_cast<float*>(exec.pool.scratch(worker, bytes)));
  });
}

void attention_backward(Exec& exec, const AttentionInput& in, const float* out, const float* lse,
                        const float* dout, float* dq, float* dk, float* dv) {
  if (exec.dry()) return;
  const size_t bytes = (2 * kQueries * kKeys + tile_scratch(in.D)) * sizeof(float);
  // A task owns the keys and values of one head group, so that their sums have one order.
  exec.pool.run(in.B * in.K, [&](int64_t task, int worker) {
    float* const scratch = static_cast<float*>(exec.pool.scratch(worker, bytes));
    const int64_t b = task / in.K, kv = task % in.K;
    const int64_t kv_offset = b * in.S * in.kv_stride + kv * in.D;
    for (int64_t row = 0; row < in.S; ++row) {
      std::fill_n(dk + kv_offset + row * in.kv_stride, in.D, 0.0f);
      std::fill_n(dv + kv_offset + row * in.kv_stride, in.D, 0.0f);
    }
    for (int64_t h = kv * in.group(); h < (kv + 1) * in.group(); ++h) {
      const Head head = head_of(in, b, h);
      const BackwardHead g{out + head.out_offset,
                           dout + head.out_offset,
                           lse + (b * in.H + h) * in.T,
                           dq + b * in.T * in.q_stride + h * in.D,
                           dk + kv_offset,
                           dv + kv_offset};
      for (int64_t i0 = 0; i0 < in.T; i0 += kQueries) {
        const int64_t i1 = std::min(in.T, i0 + kQueries);
        for (int64_t j0 = 0; j0 < i1; j0 += kKeys) {
          backward_tile(in, head, g, i0, i1 - i0, j0, std::min(kKeys, i1 - j0), scratch);
        }
      }
    }
  });
}

void attention_decode(Exec& exec, int64_t B, int64_t H, int64_t K, int64_t D, const float* q,
                      int64_t q_stride, const float* const* keys, const float* const* values,
                      const int64_t* lengths, float scale, float* out) {
  if (exec.dry()) return;
  const int64_t longest = *std::max_element(lengths, lengths + B), width = K * D;
  exec.pool.run(B * H, [&](int64_t task, int worker) {
    const int64_t b = task / H, h = task % H, n = lengths[b], offset = h / (H / K) * D;
    float* const p = static_cast<float*>(exec.pool.scratch(worker, longest * sizeof(float)));
    const float* const query = q + b * q_stride + h * D;
    for (int64_t j = 0; j < n; ++j) p[j] = dot(query, keys[b] + j * width + offset, D);
    const float total = exponentials(p, n, n, scale, largest_score(p, n) * scale);
    float* const y = out + (b * H + h) * D;
    std::fill_n(y, D, 0.0f);
    for (int64_t j = 0; j < n; ++j) {
      const float weight = p[j] / total, *v = values[b] + j * width + offset;
      simd::for_lanes(D, [&](int64_t i, auto part) {
        simd::store(y + i, simd::load(y + i, part) + simd::load(v + i, part) * weight, part);
      });
    }
  });
}

}  // namespace llmtool
