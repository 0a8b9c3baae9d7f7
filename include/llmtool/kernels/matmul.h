#pragma once
// Matrix products: packed and blocked for many rows (Goto and van de Geijn 2008), streaming for few.

#include "llmtool/core/exec.h"

namespace llmtool {

/// A strided f32 matrix: element (i, j) at data[i * row_stride + j * col_stride]; one of the strides is 1.
struct MatrixView {
  const float* data;
  int64_t row_stride;
  int64_t col_stride;

  MatrixView transposed() const { return {data, col_stride, row_stride}; }
};

enum class Write { set, add };

/// A weight (N, K) of any storage type; rows lie one after another.
struct WeightView {
  const void* data;
  DType dtype;

  WeightView(const Tensor& t) : data(t.data), dtype(t.dtype) {}
};

/// c (M, N; rows ldc apart) = x (M, K) w (N, K)^T [+ bias (N)]: the bits are those of w in f32.
void matmul(Exec& exec, int64_t M, int64_t N, int64_t K, const float* x, WeightView w, float* c, int64_t ldc,
            const float* bias = nullptr);

/// c (M, N; rows ldc apart) = a (M, K) w (K, N), or +=, where w's rows are whole blocks of its type: what a
/// gradient with respect to a layer's input is made of. The bits are those of w in f32.
void matmul_rows(Exec& exec, int64_t M, int64_t N, int64_t K, MatrixView a, WeightView w, float* c,
                 int64_t ldc, Write write = Write::set);

/// c (M, N; rows ldc apart) = a (M, K) b (K, N) [+ bias (N)], or += . The bits of an element depend on K and
/// its own row and column alone, not on M, N or the number of threads.
void matmul(Exec& exec, int64_t M, int64_t N, int64_t K, MatrixView a, MatrixView b, float* c, int64_t ldc,
            Write write = Write::set, const float* bias = nullptr);

/// The same product on the calling thread, for tiles of a larger computation. `scratch` holds
/// matmul_tile_scratch(M, N, K) floats, 64-byte aligned.
void matmul_tile(int64_t M, int64_t N, int64_t K, MatrixView a, MatrixView b, float* c, int64_t ldc,
                 Write write, float* scratch);
int64_t matmul_tile_scratch(int64_t M, int64_t N, int64_t K);

/// y (B, N; rows ldy apart) = x (B, K) w (N, K)^T [+ bias (N)] for few rows: reads w once, at the speed of
/// memory. The bits of a row do not depend on B, and are those of w in f32.
void matvec(Exec& exec, int64_t B, int64_t N, int64_t K, const float* x, WeightView w, float* y, int64_t ldy,
            const float* bias = nullptr);

}  // namespace llmtool
