#include "llmtool/kernels/matmul.h"

#include <algorithm>

#include "kernels/quantize.h"
#include "kernels/simd.h"
#include "llmtool/kernels/convert.h"

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

// The packed rows of a (kMc x kKc) stay in the third-level cache, where all threads read them; a sliver of b
// (kKc x kNr) stays in the second of the thread that packs and uses it.
constexpr int64_t kKc = 768;
constexpr int64_t kMc = 1032;               // whole slivers of either height
constexpr int64_t kMinTileRows = 40 * kMr;  // fewer would not repay the packing of b

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

/// Up to 8 rows of 8 floats, `stride` apart, turned into 8 columns `out_stride` apart, each written over
/// what the one before left behind its own rows.
template <int rows>
void transpose8(const float* in, int64_t stride, float* out, int64_t out_stride) {
  simd::Vec8 r[8] = {};
  for (int i = 0; i < rows; ++i) std::memcpy(&r[i], in + i * stride, sizeof r[i]);
  simd::transpose(r);
  for (int i = 0; i < 7; ++i) std::memcpy(out + i * out_stride, &r[i], sizeof r[i]);
  std::memcpy(out + 7 * out_stride, &r[7], rows * sizeof(float));
}

/// Slivers packed together, so that cache lines of the input that span several are read once.
constexpr int64_t kPackGroup = 8;
constexpr int64_t kPackCols = 2;  // of b, when its columns lie side by side

/// One sliver of neighbours that each lie along the sum: 16 steps, a cache line of each neighbour, at a time.
template <int width>
void pack_transposed(const float* in, int64_t across, int64_t k, float* out) {
  constexpr int kPart = std::min(width, 8);
  int64_t p = 0;
  for (; p + 16 <= k; p += 16) {
    for (int w = 0; w < width; ++w) __builtin_prefetch(in + w * across + p + 64, 0, 2);
    for (int w = 0; w < width; w += kPart) {
      const int first = std::min(w, width - kPart);  // the last part may overlap those before
      transpose8<kPart>(in + first * across + p, across, out + p * width + first, width);
      transpose8<kPart>(in + first * across + p + 8, across, out + (p + 8) * width + first, width);
    }
  }
  for (; p < k; ++p) {
    for (int w = 0; w < width; ++w) out[p * width + w] = in[w * across + p];
  }
}

/// Slivers of `width` neighbours (rows of a, columns of b), `have` neighbours in all, missing ones zero, for
/// k steps of the sum, step by step. Neighbour w at step p is in[w * across + p * along].
template <int width>
void pack_slivers(const float* in, int64_t across, int64_t along, int64_t have, int64_t k, float* out) {
  const int64_t whole = have / width;
  if (across == 1) {
    for (int64_t p = 0; p < k; ++p) {
      const float* row = in + p * along;
      for (int64_t w = 0; w < have; w += 16) __builtin_prefetch(row + 8 * along + w, 0, 2);
      for (int64_t s = 0; s < whole; ++s)
        std::memcpy(out + (s * k + p) * width, row + s * width, width * sizeof(float));
    }
  } else {
    for (int64_t s = 0; s < whole; ++s)
      pack_transposed<width>(in + s * width * across, across, k, out + s * width * k);
  }
  const int64_t rest = have - whole * width;
  if (rest == 0) return;
  in += whole * width * across;
  out += whole * width * k;
  for (int64_t p = 0; p < k; ++p) {
    for (int64_t w = 0; w < width; ++w) out[p * width + w] = w < rest ? in[w * across + p * along] : 0;
  }
}

struct Operands {
  const float* a;  // packed slivers of kMr rows
  int64_t k;
  float* c;
  int64_t ldc;
  bool add;
  const float* bias;
};

/// Memory that the next sliver of b will be packed from: `runs` runs of `bytes`, `stride` bytes apart.
struct Ahead {
  const std::byte* data = nullptr;
  int64_t runs = 0, bytes = 0, stride = 0;

  /// Asks for part t of T, so that it is there when its turn comes.
  void fetch(int64_t t, int64_t T) const {
    constexpr int64_t kLine = 64;
    const int64_t lines = (bytes + kLine - 1) / kLine, all = runs * lines;
    for (int64_t l = all * t / T; l < all * (t + 1) / T; ++l) {
      __builtin_prefetch(data + l / lines * stride + l % lines * kLine, 0, 2);
    }
  }
};

/// Rows [i0, i1) of c, i0 on a sliver's border, and `cols` columns from j on, from the packed sliver b.
void multiply_sliver(const Operands& o, int64_t i0, int64_t i1, const float* b, int64_t j, int64_t cols,
                     const Ahead& ahead) {
  const float* bias = o.bias ? o.bias + j : nullptr;
  const int64_t calls = (i1 - i0 + kMr - 1) / kMr;
  for (int64_t call = 0; call < calls; ++call) {
    const int64_t i = i0 + call * kMr;
    float* c = o.c + i * o.ldc + j;
    if (ahead.data) ahead.fetch(call, calls);
    if (i + kMr <= i1 && cols == kNr) {
      micro_kernel(o.k, o.a + i * o.k, b, c, o.ldc, o.add, bias);
    } else {
      edge_kernel(o.k, o.a + i * o.k, b, c, o.ldc, o.add, bias, std::min<int64_t>(kMr, i1 - i), cols);
    }
  }
}

/// kPackGroup slivers, of row (column) i on.
void pack_rows(MatrixView a, int64_t rows, int64_t k, int64_t i, float* packed) {
  pack_slivers<kMr>(a.data + i * a.row_stride, a.row_stride, a.col_stride,
                    std::min<int64_t>(kPackGroup * kMr, rows - i), k, packed + i * k);
}

/// Slivers for `width` columns, of column j on.
void pack_cols(MatrixView b, int64_t width, int64_t k, int64_t j, float* packed) {
  pack_slivers<kNr>(b.data + j * b.col_stride, b.col_stride, b.row_stride, width, k, packed);
}

Ahead ahead_of(MatrixView b, int64_t width, int64_t k, int64_t j) {
  constexpr int64_t kFloat = sizeof(float);
  const auto* data = reinterpret_cast<const std::byte*>(b.data + j * b.col_stride);
  return b.col_stride == 1 ? Ahead{data, k, width * kFloat, b.row_stride * kFloat}
                           : Ahead{data, width, k * kFloat, b.col_stride * kFloat};
}

/// The same of a weight whose rows are K long: `rows` rows from `row` on, `n` numbers of each from k on.
Ahead ahead_of(WeightView w, int64_t K, int64_t row, int64_t rows, int64_t k, int64_t n) {
  const auto bytes = [&](int64_t numbers) { return static_cast<int64_t>(dtype_bytes(w.dtype, numbers)); };
  return {static_cast<const std::byte*>(w.data) + bytes(row * K + k), rows, bytes(n), bytes(K)};
}

MatrixView offset(MatrixView m, int64_t row, int64_t col) {
  return {m.data + row * m.row_stride + col * m.col_stride, m.row_stride, m.col_stride};
}

/// The right-hand side as a matrix that lies in memory.
struct Dense {
  MatrixView b;
  static constexpr int64_t kTasks = 64;  // wanted at least, though each row tile packs b anew

  int64_t step() const { return b.col_stride == 1 ? kPackCols * kNr : kNr; }  // columns packed together
  static int64_t slivers() { return 1; }  // that a task's number must divide by
  static int64_t scratch() { return 0; }  // floats
  /// Packs columns [j, j + width) of the k steps from pc on.
  void pack(int64_t pc, int64_t k, int64_t j, int64_t width, float* packed, float*) const {
    pack_cols(offset(b, pc, 0), width, k, j, packed);
  }
  Ahead ahead(int64_t pc, int64_t k, int64_t j, int64_t width) const {
    return ahead_of(offset(b, pc, 0), width, k, j);
  }
};

/// The right-hand side as the transpose of a weight (N, K), unpacked to f32 on the way: kKc is whole blocks.
struct Stored {
  WeightView w;
  int64_t K;
  static constexpr int64_t kTasks = 32;  // to unpack is dearer than to pack

  // Unpacked at a time, so that it is packed out of the first-level cache: whole blocks of every type.
  static constexpr int64_t kSteps = 256;
  static_assert(kKc % kSteps == 0);

  int64_t step() const { return kNr; }
  static int64_t slivers() { return 1; }
  static int64_t scratch() { return kSteps * kNr; }
  void pack(int64_t pc, int64_t k, int64_t j, int64_t width, float* packed, float* scratch) const {
    const size_t stride = dtype_bytes(w.dtype, K);
    const auto* const first = static_cast<const std::byte*>(w.data) + dtype_bytes(w.dtype, j * K + pc);
    if (w.dtype == DType::q8_0 && width == kNr) return unpack_columns(first, stride, width, k, packed);
    for (int64_t p = 0; p < k; p += kSteps) {
      const int64_t steps = std::min(kSteps, k - p);
      const auto* row = first + dtype_bytes(w.dtype, p);
      for (int64_t i = 0; i < width; ++i, row += stride) to_f32(row, w.dtype, scratch + i * steps, steps);
      pack_cols({scratch, 1, steps}, width, steps, 0, packed + p * kNr);
    }
  }
  Ahead ahead(int64_t pc, int64_t k, int64_t j, int64_t width) const {
    return ahead_of(w, K, j, width, pc, k);
  }
};

/// The right-hand side as a weight (K, N) itself, unpacked to f32 on the way.
struct StoredRows {
  WeightView w;
  int64_t N;
  static constexpr int64_t kTasks = 32;

  static constexpr int64_t kSteps = 64;  // unpacked at a time: see Stored
  static constexpr int64_t kAhead = 12;  // rows, each in a line of memory of its own

  /// Whole blocks of the storage type; lines of memory are read whole.
  int64_t step() const { return std::max<int64_t>(64, dtype_block(w.dtype).elements); }
  int64_t slivers() const { return ceil_div(step(), kNr); }
  int64_t scratch() const { return kSteps * step(); }
  void pack(int64_t pc, int64_t k, int64_t j, int64_t width, float* packed, float* scratch) const {
    const size_t stride = dtype_bytes(w.dtype, N);
    const auto* row = static_cast<const std::byte*>(w.data) + dtype_bytes(w.dtype, pc * N + j);
    if (w.dtype == DType::q8_0) return unpack_slivers(row, stride, width, k, kNr, packed);
    for (int64_t p = 0; p < k; p += kSteps) {
      const int64_t steps = std::min(kSteps, k - p);
      for (int64_t i = 0; i < steps; ++i, row += stride) {
        if (p + i + kAhead < k) __builtin_prefetch(row + kAhead * stride);
        to_f32(row, w.dtype, scratch + i * width, width);
      }
      for (int64_t s = 0; s < width; s += kNr)
        pack_cols({scratch + s, width, 1}, std::min<int64_t>(kNr, width - s), steps, 0,
                  packed + s * k + p * kNr);
    }
  }
  Ahead ahead(int64_t pc, int64_t k, int64_t j, int64_t width) const {
    return ahead_of(w, N, pc, k, j, width);
  }
};

template <class Right>
void multiply(Exec& exec, int64_t M, int64_t N, int64_t K, MatrixView a, const Right& right, float* c,
              int64_t ldc, Write write, const float* bias) {
  ArenaScope scope(exec.scratch);
  float* const packed_a = exec.scratch.floats(std::min(round_up(M, kMr), kMc) * std::min(K, kKc));
  if (exec.dry()) return;
  const int64_t slivers = ceil_div(N, kNr);
  const int64_t most_rows = round_up(ceil_div(M, ceil_div(M, kMc)), kMr);  // even blocks: each packs b anew
  for (int64_t ic = 0; ic < M; ic += most_rows) {
    const int64_t rows = std::min(M - ic, most_rows);
    // Enough tasks for many threads, few enough for each to use what it packs; by the shapes alone.
    const int64_t row_tiles =
        std::clamp<int64_t>(ceil_div(Right::kTasks, slivers), 1, std::max<int64_t>(1, rows / kMinTileRows));
    const int64_t tile_rows = round_up(ceil_div(rows, row_tiles), kMr);
    const int64_t step = right.step();
    const int64_t group = round_up(std::clamp<int64_t>(slivers * row_tiles / 32, 1, 8), right.slivers()),
                  groups = ceil_div(slivers, group);
    for (int64_t pc = 0; pc < K; pc += kKc) {
      const int64_t k = std::min(K - pc, kKc);
      exec.pool.run(ceil_div(rows, kPackGroup * kMr), [&](int64_t task, int) {
        pack_rows(offset(a, ic, pc), rows, k, task * kPackGroup * kMr, packed_a);
      });
      const Operands o{
          packed_a, k, c + ic * ldc, ldc, write == Write::add || pc > 0, pc == 0 ? bias : nullptr};
      exec.pool.run(row_tiles * groups, [&](int64_t task, int worker) {
        const int64_t room = kKc * round_up(step, kNr);
        auto* packed_b = static_cast<float*>(
            exec.pool.scratch(worker, static_cast<size_t>(room + right.scratch()) * sizeof(float)));
        float* const unpacked = packed_b + room;
        const int64_t i = task % row_tiles * tile_rows;
        const int64_t first = task / row_tiles * group * kNr, last = std::min(N, first + group * kNr);
        for (int64_t j = first; j < last; j += step) {
          const int64_t end = std::min(last, j + step);
          right.pack(pc, k, j, end - j, packed_b, unpacked);
          for (int64_t jr = j; jr < end; jr += kNr) {
            multiply_sliver(o, i, std::min(rows, i + tile_rows), packed_b + (jr - j) * k, jr,
                            std::min<int64_t>(kNr, end - jr),
                            jr + kNr >= end && end < last
                                ? right.ahead(pc, k, end, std::min(last, end + step) - end)
                                : Ahead{});
          }
        }
      });
    }
  }
}

}  // namespace

void matmul(Exec& exec, int64_t M, int64_t N, int64_t K, MatrixView a, MatrixView b, float* c, int64_t ldc,
            Write write, const float* bias) {
  multiply(exec, M, N, K, a, Dense{b}, c, ldc, write, bias);
}

void matmul(Exec& exec, int64_t M, int64_t N, int64_t K, const float* x, WeightView w, float* c, int64_t ldc,
            const float* bias) {
  const MatrixView a{x, K, 1};
  if (w.dtype == DType::f32) {
    multiply(exec, M, N, K, a, Dense{{static_cast<const float*>(w.data), 1, K}}, c, ldc, Write::set, bias);
  } else {
    multiply(exec, M, N, K, a, Stored{w, K}, c, ldc, Write::set, bias);
  }
}

void matmul_rows(Exec& exec, int64_t M, int64_t N, int64_t K, MatrixView a, WeightView w, float* c,
                 int64_t ldc, Write write) {
  if (w.dtype == DType::f32) {
    multiply(exec, M, N, K, a, Dense{{static_cast<const float*>(w.data), N, 1}}, c, ldc, write, nullptr);
  } else {
    multiply(exec, M, N, K, a, StoredRows{w, N}, c, ldc, write, nullptr);
  }
}

int64_t matmul_tile_scratch(int64_t M, int64_t, int64_t K) {
  return (round_up(M, kMr) + kNr) * std::min(K, kKc);
}

void matmul_tile(int64_t M, int64_t N, int64_t K, MatrixView a, MatrixView b, float* c, int64_t ldc,
                 Write write, float* scratch) {
  for (int64_t pc = 0; pc < K; pc += kKc) {
    const int64_t k = std::min(K - pc, kKc);
    float* const packed_b = scratch;
    float* const packed_a = scratch + kNr * k;
    for (int64_t i = 0; i < M; i += kPackGroup * kMr) pack_rows(offset(a, 0, pc), M, k, i, packed_a);
    const Operands o{packed_a, k, c, ldc, write == Write::add || pc > 0, nullptr};
    for (int64_t j = 0; j < N; j += kNr) {
      pack_cols(offset(b, pc, 0), std::min<int64_t>(kNr, N - j), k, j, packed_b);
      multiply_sliver(o, 0, M, packed_b, j, std::min<int64_t>(kNr, N - j), {});
    }
  }
}

namespace {
// Rows of x handled together: their sums and a vector of w fit the registers.
constexpr int kVectorRows = 4;
constexpr int64_t kTaskFloats = 65536;  // of w: a long read, and enough tasks to keep the threads even

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

void matvec(Exec& exec, int64_t B, int64_t N, int64_t K, const float* x, WeightView w, float* y, int64_t ldy,
            const float* bias) {
  if (exec.dry()) return;
  const int64_t rows_of_w = std::max<int64_t>(1, kTaskFloats / std::max<int64_t>(K, 1));
  const bool stored = w.dtype != DType::f32;
  exec.pool.run(ceil_div(N, rows_of_w), [&](int64_t task, int worker) {
    auto* const row =
        stored ? static_cast<float*>(exec.pool.scratch(worker, static_cast<size_t>(K) * sizeof(float)))
               : nullptr;
    for (int64_t n = task * rows_of_w; n < std::min(N, (task + 1) * rows_of_w); ++n) {
      const float offset = bias ? bias[n] : 0.0f;
      const float* wn = stored ? row : static_cast<const float*>(w.data) + n * K;
      if (stored)
        to_f32(static_cast<const std::byte*>(w.data) + dtype_bytes(w.dtype, n * K), w.dtype, row, K);
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
