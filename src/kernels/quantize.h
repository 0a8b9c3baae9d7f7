#pragma once
// Blocks of ggml and of QLoRA to f32 and back; the front is kernels/convert.h.

#include <cstddef>
#include <cstdint>

#include "llmtool/core/tensor.h"

namespace llmtool {

bool is_block_type(DType dtype);
/// y (n) = the values of n / block blocks at x (not aligned).
void dequantize(const void* x, DType dtype, float* y, int64_t n);
/// Rows of q8_0, `stride` bytes apart, to where a matrix product reads them. Columns of a sliver: out (n,
/// width) = the first n values of `width` rows, width a multiple of 8.
void unpack_columns(const std::byte* rows, size_t stride, int64_t width, int64_t n, float* out);
/// Rows across slivers: out (width / sliver, n, sliver) = the first `width` values of n rows; sliver
/// divides 32.
void unpack_slivers(const std::byte* rows, size_t stride, int64_t width, int64_t n, int64_t sliver,
                    float* out);
/// q8_0, q4_0, nf4 and nf4_dq; throws Error for the others.
void quantize(const float* x, void* y, DType dtype, int64_t n);

/// One block of nf4 or nf4_dq.
void read_nf4(const uint8_t* block, float* y);
void read_nf4_dq(const uint8_t* block, float* y);
void write_nf4(const float* x, uint8_t* block);
void write_nf4_dq(const float* x, uint8_t* block);

}  // namespace llmtool
