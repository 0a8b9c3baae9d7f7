#include "llmtool/kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/attention_scores.h"
#include "kernels/parallel.h"
#include "llmtool/kernels/matmul.h"

namespace llmtool {

namespace {
constexpr int64_t kQueries = 72;  // rows of a tile: a multiple of the matrix product's
constexpr int64_t kKeys = 128;    // columns of a tile

int64_t tile_scratch(int64_t D) {
  return std::max({matmul_tile_scratch(kQueries, kKeys, D), matmul_tile_scratch(kQueries, D, kKeys),
                   matmul_tile_scratch(kKeys, D, kQueries)});
}

/// One head of one sequence.
struct Head {
  int64_t T, S;  // its queries are the last T of S positions
  MatrixView q, k, v;
  uint64_t first_draw;  // of the dropout mask: element (i, j) draws number first_draw + i * S + j
  int64_t out_offset, out_stride, lse_offset;
};

/// `draws`: those of the sequences before.
Head head_of(const AttentionInput& in, int64_t b, int64_t h, uint64_t draws) {
  const int64_t start = in.starts[b], T = in.starts[b + 1] - start, S = T + in.past;
  const int64_t kv = start * in.kv_stride + h / in.group() * in.D;
  return {T,
          S,
          {in.q + start * in.q_stride + h * in.D, in.q_stride, 1},
          {in.k + kv, in.kv_stride, 1},
          {in.v + kv, in.kv_stride, 1},
          draws + static_cast<uint64_t>(h * T * S),
          (start * in.H + h) * in.D,
          in.H * in.D,
          start * in.H + h * T};
}

/// Tile `index` of the queries of sequence b.
struct Tile {
  int64_t b, index;
  uint64_t draws;
};

/// The long tiles (late queries) first, so that the short ones fill the gaps at the end.
std::vector<Tile> tiles_of(const AttentionInput& in) {
  std::vector<Tile> tiles;
  uint64_t draws = 0;
  for (int64_t b = 0; b < in.sequences(); ++b) {
    const int64_t T = in.starts[b + 1] - in.starts[b];
    for (int64_t index = 0; index * kQueries < T; ++index) tiles.push_back({b, index, draws});
    draws += static_cast<uint64_t>(in.H * T * (T + in.past));
  }
  std::stable_sort(tiles.begin(), tiles.end(),
                   [](const Tile& x, const Tile& y) { return x.index > y.index; });
  return tiles;
}

MatrixView rows_from(MatrixView m, int64_t row) {
  return {m.data + row * m.row_stride, m.row_stride, m.col_stride};
}

/// Columns [first, last) of a tile's row: the keys that its query sees.
struct Seen {
  int64_t first, last;
  int64_t size() const { return last - first; }
};

/// The keys that query i sees, of the keys from j0 on that a tile of `cols` holds.
Seen seen_by(const AttentionRules& rules, const Head& head, int64_t i, int64_t j0, int64_t cols) {
  const int64_t at = head.S - head.T + i, window = rules.window;
  const int64_t last = std::clamp<int64_t>((rules.causal ? at + 1 : head.S) - j0, 0, cols);
  return {std::clamp<int64_t>(window > 0 ? at + 1 - window - j0 : 0, 0, last), last};
}

/// The first key of a tile's border that queries from i0 on see, and one past the last that those before i1
/// see.
Seen keys_of(const AttentionRules& rules, const Head& head, int64_t i0, int64_t i1) {
  const int64_t past = head.S - head.T, window = rules.window;
  const int64_t first = window > 0 ? std::max<int64_t>(0, past + i0 + 1 - window) : 0;
  return {first / kKeys * kKeys, rules.causal ? past + i1 : head.S};
}

/// How many keys from j0 on are a tile's: up to the next border, or to the prefix's end, so that they lie in
/// one place.
int64_t tile_cols(const AttentionRules& rules, int64_t j0, int64_t last) {
  const int64_t border = std::min(last, (j0 / kKeys + 1) * kKeys), prefix = rules.prefix.count;
  return (j0 < prefix ? std::min(border, prefix) : border) - j0;
}

/// Where a tile's keys and values are: in the prefix, in the rows of the input, or in a cache.
struct TileKeys {
  TileKeys(const AttentionInput& in, const Head& head, int64_t h, float* room) : head_(head), room_(room) {
    if (in.rules.prefix.count > 0) {
      prefix_keys_ = prefix_head(in.rules.prefix, 0, h, in.H, in.D);
      prefix_values_ = prefix_head(in.rules.prefix, 1, h, in.H, in.D);
    }
    if (!in.cache) return;
    keys_ = cached_head(*in.cache, in.cache->keys, h / in.group(), in.K, in.D);
    values_ = cached_head(*in.cache, in.cache->values, h / in.group(), in.K, in.D);
  }
  MatrixView keys(int64_t first, int64_t n) const {
    if (first < prefix_keys_.slots) return prefix_keys_.rows(first, n, room_);
    return keys_.data ? keys_.rows(first, n, room_) : rows_from(head_.k, first);
  }
  MatrixView values(int64_t first, int64_t n) const {
    if (first < prefix_values_.slots) return prefix_values_.rows(first, n, room_);
    return values_.data ? values_.rows(first, n, room_) : rows_from(head_.v, first);
  }

 private:
  const Head& head_;
  float* room_;  // (kKeys, D)
  CachedHead prefix_keys_{}, prefix_values_{}, keys_{}, values_{};
};

/// Zeroes the keys that are not seen.
void clear_unseen(float* row, Seen seen, int64_t width) {
  std::fill(row, row + seen.first, 0.0f);
  std::fill(row + seen.last, row + width, 0.0f);
}

void drop(float* row, int64_t n, const Dropout& dropout, uint64_t first) {
  for (int64_t j = 0; j < n; ++j) row[j] *= dropout.factor(first + j);
}

/// Floats that a tile of a cache's keys or values becomes, kept a multiple of a cache line.
int64_t unpacked_floats(const AttentionInput& in) {
  return in.cache && in.cache->type != DType::f32 ? kKeys * in.D : 0;
}

/// Output rows [i0, i1) of head h.
void forward_tile(const AttentionInput& in, const Head& head, int64_t h, int64_t i0, int64_t i1, float* out,
                  float* lse, float* scratch) {
  const int64_t rows = i1 - i0;
  const Seen keys = keys_of(in.rules, head, i0, i1);
  float* const scores = scratch;
  float* const room = scratch + kQueries * kKeys;
  float* const product_scratch = room + unpacked_floats(in);
  const TileKeys tile(in, head, h, room);
  float most[kQueries], sums[kQueries];
  std::fill_n(most, rows, kLowest);
  std::fill_n(sums, rows, 0.0f);
  for (int64_t j0 = keys.first, cols; j0 < keys.last; j0 += cols) {
    cols = tile_cols(in.rules, j0, keys.last);
    matmul_tile(rows, cols, in.D, rows_from(head.q, i0), tile.keys(j0, cols).transposed(), scores, cols,
                Write::set, product_scratch);
    for (int64_t r = 0; r < rows; ++r) {
      float* const row = scores + r * cols;
      const Seen seen = seen_by(in.rules, head, i0 + r, j0, cols);
      float* const first = row + seen.first;
      clear_unseen(row, seen, cols);
      if (seen.size() == 0) continue;
      const float scale = shape_scores(in.rules, h, j0 + seen.first, first, seen.size(), nullptr);
      const float shift = std::max(most[r], largest_score(first, seen.size()) * scale);
      const float correction = std::exp(most[r] - shift);
      sums[r] = sums[r] * correction + exponentials(first, seen.size(), scale, shift);
      if (j0 > keys.first && correction != 1.0f)
        scale_row(out + (i0 + r) * head.out_stride, in.D, correction);
      if (in.dropout)
        drop(first, seen.size(), in.dropout, head.first_draw + (i0 + r) * head.S + j0 + seen.first);
      most[r] = shift;
    }
    matmul_tile(rows, in.D, cols, {scores, cols, 1}, tile.values(j0, cols), out + i0 * head.out_stride,
                head.out_stride, j0 > keys.first ? Write::add : Write::set, product_scratch);
  }
  for (int64_t r = 0; r < rows; ++r) {
    scale_row(out + (i0 + r) * head.out_stride, in.D, 1.0f / sums[r]);
    if (lse) lse[i0 + r] = most[r] + std::log(sums[r]);
  }
}

struct BackwardHead {
  const float *out, *dout, *lse;  // of the head; rows as Head says
  float *dq, *dk, *dv;
  float* dprefix;  // at the head's keys; null where none is wanted
  int64_t h;
};

/// One tile of probabilities (rows i0.., keys j0..) recomputed, and its share of dq, dk and dv.
void backward_tile(const AttentionInput& in, const Head& head, const BackwardHead& g, int64_t i0,
                   int64_t rows, int64_t j0, int64_t cols, Write write_dq, float* scratch) {
  float* const p = scratch;
  float* const dp = p + kQueries * kKeys;
  float* const product_scratch = dp + kQueries * kKeys;
  const TileKeys tile(in, head, g.h, nullptr);
  const MatrixView q = rows_from(head.q, i0), k = tile.keys(j0, cols), v = tile.values(j0, cols);
  const MatrixView dout{g.dout + i0 * head.out_stride, head.out_stride, 1};
  matmul_tile(rows, cols, in.D, q, k.transposed(), p, cols, Write::set, product_scratch);
  matmul_tile(rows, cols, in.D, dout, v.transposed(), dp, cols, Write::set, product_scratch);
  for (int64_t r = 0; r < rows; ++r) {
    float *const pr = p + r * cols, *const dr = dp + r * cols;
    const Seen seen = seen_by(in.rules, head, i0 + r, j0, cols);
    const int64_t n = seen.size(), at = (i0 + r) * head.out_stride;
    float *const ps = pr + seen.first, *const ds = dr + seen.first;
    float slopes[kKeys];
    clear_unseen(pr, seen, cols);
    exponentials(ps, n, shape_scores(in.rules, g.h, j0 + seen.first, ps, n, slopes), g.lse[i0 + r]);
    const float delta = simd::dot(g.out + at, g.dout + at, in.D);
    const uint64_t draw = head.first_draw + (i0 + r) * head.S + j0 + seen.first;
    if (in.dropout) drop(ds, n, in.dropout, draw);
    simd::for_lanes(cols, [&](int64_t j, auto part) {
      simd::store(dr + j, simd::load(pr + j, part) * (simd::load(dr + j, part) - delta) * in.rules.scale,
                  part);
    });
    if (in.rules.softcap != 0) {
      simd::for_lanes(n, [&](int64_t j, auto part) {
        simd::store(ds + j, simd::load(ds + j, part) * simd::load(slopes + j, part), part);
      });
    }
    if (in.dropout) drop(ps, n, in.dropout, draw);
  }
  const bool of_prefix = j0 < in.rules.prefix.count;
  const int64_t stride = of_prefix ? in.rules.prefix.stride : in.kv_stride;
  if (float* const dk = of_prefix ? g.dprefix : g.dk) {
    float* const dv = of_prefix ? dk + in.H * in.D : g.dv;
    matmul_tile(cols, in.D, rows, MatrixView{p, cols, 1}.transposed(), dout, dv + j0 * stride, stride,
                Write::add, product_scratch);
    matmul_tile(cols, in.D, rows, MatrixView{dp, cols, 1}.transposed(), q, dk + j0 * stride, stride,
                Write::add, product_scratch);
  }
  matmul_tile(rows, in.D, cols, {dp, cols, 1}, k, g.dq + i0 * in.q_stride, in.q_stride, write_dq,
              product_scratch);
}
}  // namespace

void attention(Exec& exec, const AttentionInput& in, float* out, float* lse) {
  if (exec.dry()) return;
  const std::vector<Tile> tiles = tiles_of(in);
  const size_t bytes = (kQueries * kKeys + unpacked_floats(in) + tile_scratch(in.D)) * sizeof(float);
  exec.pool.run(static_cast<int64_t>(tiles.size()) * in.H, [&](int64_t task, int worker) {
    const Tile& tile = tiles[static_cast<size_t>(task / in.H)];
    const int64_t h = task % in.H, first = tile.index * kQueries;
    const Head head = head_of(in, tile.b, h, tile.draws);
    forward_tile(in, head, h, first, std::min(head.T, first + kQueries), out + head.out_offset,
                 lse ? lse + head.lse_offset : nullptr,
                 static_cast<float*>(exec.pool.scratch(worker, bytes)));
  });
}

void attention_backward(Exec& exec, const AttentionInput& in, const float* out, const float* lse,
                        const float* dout, float* dq, float* dk, float* dv, float* dprefix) {
  if (exec.dry()) return;
  const size_t bytes = (2 * kQueries * kKeys + tile_scratch(in.D)) * sizeof(float);
  std::vector<uint64_t> draws = {0};  // of the sequences before each
  for (int64_t b = 0; b < in.sequences(); ++b) {
    const int64_t T = in.starts[b + 1] - in.starts[b];
    draws.push_back(draws.back() + static_cast<uint64_t>(in.H * T * T));
  }
  const auto group_backward = [&](int64_t b, int64_t kv, float* scratch) {
    const int64_t start = in.starts[b], kv_offset = start * in.kv_stride + kv * in.D;
    for (int64_t row = 0; row < in.starts[b + 1] - start; ++row) {
      std::fill_n(dk + kv_offset + row * in.kv_stride, in.D, 0.0f);
      std::fill_n(dv + kv_offset + row * in.kv_stride, in.D, 0.0f);
    }
    for (int64_t h = kv * in.group(); h < (kv + 1) * in.group(); ++h) {
      const Head head = head_of(in, b, h, draws[static_cast<size_t>(b)]);
      const BackwardHead g{out + head.out_offset,
                           dout + head.out_offset,
                           lse + head.lse_offset,
                           dq + start * in.q_stride + h * in.D,
                           dk + kv_offset,
                           dv + kv_offset,
                           dprefix ? dprefix + h * in.D : nullptr,
                           h};
      for (int64_t i0 = 0; i0 < head.T; i0 += kQueries) {
        const int64_t i1 = std::min(head.T, i0 + kQueries);
        const Seen keys = keys_of(in.rules, head, i0, i1);
        for (int64_t j0 = keys.first, cols; j0 < keys.last; j0 += cols) {
          cols = tile_cols(in.rules, j0, keys.last);
          backward_tile(in, head, g, i0, i1 - i0, j0, cols, j0 > keys.first ? Write::add : Write::set,
                        scratch);
        }
      }
    }
  };
  // A task owns the keys and values of one head group, so that their sums have one order: those of one
  // sequence, or, as a prefix is that of all, of all.
  const int64_t B = in.sequences(), together = in.rules.prefix.count > 0 ? B : 1;
  exec.pool.run(B / together * in.K, [&](int64_t task, int worker) {
    float* const scratch = static_cast<float*>(exec.pool.scratch(worker, bytes));
    const int64_t first = task / in.K * together;
    for (int64_t b = first; b < first + together; ++b) group_backward(b, task % in.K, scratch);
  });
}

}  // namespace llmtool
