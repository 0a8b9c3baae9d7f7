#include "llmtool/kernels/matmul.h"

#include <algorithm>

#include "kernels/simd.h"

namespace llmtool {

namespace {
using simd::kLanes;
using simd::Vec;

// The micro-kernel holds kMr x kNr results in registers: 12 of 16 vectors, or 24 of 32 with AVX-512.
#if defined(__AVX512F__)
constexpr int kMr = 12;
#else
constexpr int kMr = 6;
#endif
constexpr int kNr = 2 * kLanes;

// A sliver of b (kKc x kNr) stays in the first-level cache, a block of a (kTileRows x kKc) in the second, and
// what is packed at a time (kKc columns of a and rows of b) in the third.
constexpr int64_t kKc = 384;
constexpr int64_t kTileRows = 24 * 6;
constexpr int64_t kTileCols = 24 * kNr;
constexpr int64_t kMc = 12 * kTileRows;
constexpr int64_t kNc = 8 * kTileCols;

int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }
int64_t ceil_div(int64_t n, int64_t step) { return (n + step - 1) / step; }

/// c (kMr, kNr) = or += a sliver (k, kMr) * b sliver (k, kNr).
void micro_kernel(int64_t k, const float* __restrict a, const float* __restrict b, float* __restrict c,
                  int64_t ldc, bool add, const float* bias) {
  Vec acc[kMr][2] = {};
  for (int i = 0; i < kMr; ++i) {  // asked for now, c is there when the sum is done
    __builtin_prefetch(c + i * ldc, 1);
    __builtin_prefetch(c + i * ldc + kNr - 1, 1);
  }
  for (int64_t p = 0; p < k; ++p) {
    const Vec b0 = simd::load(b), b1 = simd::load(b + kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kMr; ++i) {
      const Vec ai = simd::broadcast(a[i]);
      acc[i][0] += ai * b0;
      acc[i][1] += ai * b1;
    }
    a += kMr;
    b += kNr;
  }
#pragma GCC unroll 16
  for (int i = 0; i < kMr; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      float* out = c + i * ldc + j * kLanes;
      Vec v = acc[i][j];
      if (add) v += simd::load(out);
      if (bias) v += simd::load(bias + j * kLanes);
      simd::store(out, v);
    }
  }
}

/// The same at the rim, where only rows x cols of the tile exist.
void edge_kernel(int64_t k, const float* a, const float* b, float* c, int64_t ldc, bool add,
                 const float* bias, int64_t rows, int64_t cols) {
  float tile[kMr * kNr];
  float tile_bias[kNr] = {};
  for (int64_t i = 0; add && i < rows; ++i) std::copy_n(c + i * ldc, cols, tile + i * kNr);
  for (int64_t i = add ? rows : kMr; i < kMr; ++i) std::fill_n(tile + i * kNr, kNr, 0.0f);
  if (bias) std::copy_n(bias, cols, tile_bias);
  for (int64_t i = 0; add && i < rows; ++i) std::fill(tile + i * kNr + cols, tile + (i + 1) * kNr, 0.0f);
  micro_kernel(k, a, b, tile, kNr, add, bias ? tile_bias : nullptr);
  for (int64_t i = 0; i < rows; ++i) std::copy_n(tile + i * kNr, cols, c + i * ldc);
}

typedef float Vec8 __attribute__((vector_size(32)));

/// 8 rows of 8 floats, `stride` apart, turned into 8 columns `out_stride` apart.
void transpose8(const float* in, int64_t stride, float* out, int64_t out_stride) {
  Vec8 r[8], t[8];
  for (int i = 0; i < 8; ++i) std::memcpy(&r[i], in + i * stride, sizeof(Vec8));
  for (int i = 0; i < 8; i += 2) {
    t[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    t[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int i = 0; i < 8; i += 4) {
    for (int j = 0; j < 2; ++j) {
      r[i + 2 * j] = __builtin_shufflevector(t[i + j], t[i + 2 + j], 0, 1, 8, 9, 4, 5, 12, 13);
      r[i + 2 * j + 1] = __builtin_shufflevector(t[i + j], t[i + 2 + j], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = __builtin_shufflevector(r[i], r[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    t[i + 4] = __builtin_shufflevector(r[i], r[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
  for (int i = 0; i < 8; ++i) std::memcpy(out + i * out_stride, &t[i], sizeof(Vec8));
}

/// One sliver: `width` neighbours (rows of a, columns of b; missing ones zero) for k steps of the sum, step
/// by step. Neighbour w at step p is in[w * across + p * along].
template <int width>
void pack_sliver(const float* in, int64_t across, int64_t along, int64_t have, int64_t k, float* out) {
  if (across == 1 && have == width) {
    for (int64_t p = 0; p < k; ++p) std::memcpy(out + p * width, in + p * along, width * sizeof(float));
    return;
  }
  int64_t done = 0;
  if (along == 1 && have == width) {
    for (; done + 8 <= k; done += 8) {
      if (done % 16 == 0) {
        for (int w = 0; w < width; ++w) __builtin_prefetch(in + w * across + done + 64);
      }
      for (int w = 0; w + 8 <= width; w += 8)
        transpose8(in + w * across + done, across, out + done * width + w, width);
      for (int w = width / 8 * 8; w < width; ++w) {
        for (int p = 0; p < 8; ++p) out[(done + p) * width + w] = in[w * across + done + p];
      }
    }
  }
  for (int64_t p = done; p < k; ++p) {
    for (int64_t w = 0; w < have; ++w) out[p * width + w] = in[w * across + p * along];
    for (int64_t w = have; w < width; ++w) out[p * width + w] = 0;
  }
}

struct Operands {
  const float* a;  // packed slivers of kMr rows
  const float* b;  // packed slivers of kNr columns
  int64_t k;
  float* c;
  int64_t ldc;
  bool add;
  const float* bias;
};

/// Rows [i0, i1) and columns [j0, j1) of the packed block; i0 and j0 on sliver borders.
void multiply_block(const Operands& o, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
  for (int64_t j = j0; j < j1; j += kNr) {
    const float* b = o.b + j * o.k;
    const float* bias = o.bias ? o.bias + j : nullptr;
    for (int64_t i = i0; i < i1; i += kMr) {
      float* c = o.c + i * o.ldc + j;
      if (i + kMr <= i1 && j + kNr <= j1) {
        micro_kernel(o.k, o.a + i * o.k, b, c, o.ldc, o.add, bias);
      } else {
        edge_kernel(o.k, o.a + i * o.k, b, c, o.ldc, o.add, bias, std::min<int64_t>(kMr, i1 - i),
                    std::min<int64_t>(kNr, j1 - j));
      }
    }
  }
}

void pack_rows(MatrixView a, int64_t rows, int64_t k, int64_t i, float* packed) {
  pack_sliver<kMr>(a.data + i * a.row_stride, a.row_stride, a.col_stride, std::min<int64_t>(kMr, rows - i), k,
                   packed + i * k);
}

void pack_cols(MatrixView b, int64_t cols, int64_t k, int64_t j, float* packed) {
  pack_sliver<kNr>(b.data + j * b.col_stride, b.col_stride, b.row_stride, std::min<int64_t>(kNr, cols - j), k,
                   packed + j * k);
}

MatrixView offset(MatrixView m, int64_t row, int64_t col) {
  return {m.data + row * m.row_stride + col * m.col_stride, m.row_stride, m.col_stride};
}

/// Slivers packed by one task: enough work to be worth handing out.
constexpr int64_t kPackGroup = 4;
}  // namespace

void matmul(Exec& exec, int64_t M, int64_t N, int64_t K, MatrixView a, MatrixView b, float* c, int64_t ldc,
            Write write, const float* bias) {
  ArenaScope scope(exec.scratch);
  const int64_t kc = std::min(K, kKc), mc = std::min(round_up(M, kMr), kMc),
                nc = std::min(round_up(N, kNr), kNc);
  float* const packed_a = exec.scratch.floats(mc * kc);
  float* const packed_b = exec.scratch.floats(nc * kc);
  if (exec.dry()) return;
  for (int64_t jc = 0; jc < N; jc += kNc) {
    const int64_t cols = std::min(N - jc, kNc);
    for (int64_t pc = 0; pc < K; pc += kKc) {
      const int64_t k = std::min(K - pc, kKc);
      const MatrixView b_block = offset(b, pc, jc);
      const int64_t b_tasks = ceil_div(cols, kPackGroup * kNr);
      for (int64_t ic = 0; ic < M; ic += kMc) {
        const int64_t rows = std::min(M - ic, kMc);
        const MatrixView a_block = offset(a, ic, pc);
        const int64_t a_tasks = ceil_div(rows, kPackGroup * kMr), fresh_b = ic == 0 ? b_tasks : 0;
        exec.pool.run(a_tasks + fresh_b, [&](int64_t task, int) {
          for (int64_t s = 0; s < kPackGroup; ++s) {
            if (const int64_t j = (task * kPackGroup + s) * kNr; task < fresh_b) {
              if (j < cols) pack_cols(b_block, cols, k, j, packed_b);
            } else if (const int64_t i = ((task - fresh_b) * kPackGroup + s) * kMr; i < rows) {
              pack_rows(a_block, rows, k, i, packed_a);
            }
          }
        });
        const Operands o{packed_a,
                         packed_b,
                         k,
                         c + ic * ldc + jc,
                         ldc,
                         write == Write::add || pc > 0,
                         bias && pc == 0 ? bias + jc : nullptr};
        // Even tiles: with few of them a short last one would leave a thread idle.
        const int64_t row_tiles = ceil_div(rows, kTileRows),
                      tile_rows = round_up(ceil_div(rows, row_tiles), kMr);
        const int64_t col_tiles = ceil_div(cols, kTileCols),
                      tile_cols = round_up(ceil_div(cols, col_tiles), kNr);
        exec.pool.run(row_tiles * col_tiles, [&](int64_t task, int) {
          const int64_t i = task % row_tiles * tile_rows, j = task / row_tiles * tile_cols;
          multiply_block(o, i, std::min(rows, i + tile_rows), j, std::min(cols, j + tile_cols));
        });
      }
    }
  }
}

int64_t matmul_tile_scratch(int64_t M, int64_t N, int64_t K) {
  return (round_up(M, kMr) + round_up(N, kNr)) * std::min(K, kKc);
}

void matmul_tile(int64_t M, int64_t N, int64_t K, MatrixView a, MatrixView b, float* c, int64_t ldc,
                 Write write, float* scratch) {
  for (int64_t pc = 0; pc < K; pc += kKc) {
    const int64_t k = std::min(K - pc, kKc);
    float* const packed_b = scratch;
    float* const packed_a = scratch + round_up(N, kNr) * k;
    for (int64_t j = 0; j < N; j += kNr) pack_cols(offset(b, pc, 0), N, k, j, packed_b);
    for (int64_t i = 0; i < M; i += kMr) pack_rows(offset(a, 0, pc), M, k, i, packed_a);
    multiply_block({packed_a, packed_b, k, c, ldc, write == Write::add || pc > 0, nullptr}, 0, M, 0, N);
  }
}

namespace {
// Rows of x handled together: their sums and a vector of w fit the registers.
constexpr int kVectorRows = 4;
constexpr int64_t kRowsOfW = 16;  // per task

/// y[r] = dot(x[r], w) for `rows` <= kVectorRows rows, K terms, over four running sums each.
template <int rows>
void dot_rows(const float* x, int64_t ldx, const float* w, int64_t K, float* y, int64_t ldy, float bias) {
  constexpr int kSums = 4;
  Vec acc[rows][kSums] = {};
  int64_t k = 0;
  for (; k + kSums * kLanes <= K; k += kSums * kLanes) {
#pragma GCC unroll 4
    for (int s = 0; s < kSums; ++s) {
      const Vec ws = simd::load(w + k + s * kLanes);
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) acc[r][s] += ws * simd::load(x + r * ldx + k + s * kLanes);
    }
  }
  for (; k < K; k += kLanes) {
    const int64_t lanes = std::min<int64_t>(kLanes, K - k);
    const Vec ws = simd::load_part(w + k, lanes, 0);
    for (int r = 0; r < rows; ++r) acc[r][0] += ws * simd::load_part(x + r * ldx + k, lanes, 0);
  }
  for (int r = 0; r < rows; ++r) {
    y[r * ldy] = simd::sum((acc[r][0] + acc[r][1]) + (acc[r][2] + acc[r][3])) + bias;
  }
}
}  // namespace

void matvec(Exec& exec, int64_t B, int64_t N, int64_t K, const float* x, const float* w, float* y,
            int64_t ldy, const float* bias) {
  if (exec.dry()) return;
  exec.pool.run(ceil_div(N, kRowsOfW), [&](int64_t task, int) {
    for (int64_t n = task * kRowsOfW; n < std::min(N, (task + 1) * kRowsOfW); ++n) {
      const float offset = bias ? bias[n] : 0.0f;
      const float* wn = w + n * K;
      for (int64_t r = 0; r < B; r += kVectorRows) {
        const float* xr = x + r * K;
        float* yr = y + r * ldy + n;
        switch (std::min<int64_t>(kVectorRows, B - r)) {
          case 1:
            dot_rows<1>(xr, K, wn, K, yr, ldy, offset);
            break;
          case 2:
            dot_rows<2>(xr, K, wn, K, yr, ldy, offset);
            break;
          case 3:
            dot_rows<3>(xr, K, wn, K, yr, ldy, offset);
            break;
          default:
            dot_rows<4>(xr, K, wn, K, yr, ldy, offset);
            break;
        }
      }
    }
  });
}

}  // namespace llmtool
