#pragma once
// ggml's blocks to f32 and back; the front is kernels/convert.h.

#include <cstdint>

#include "llmtool/core/tensor.h"

namespace llmtool {

bool is_block_type(DType dtype);
/// y (n) = the values of n / block blocks at x (not aligned).
void dequantize(const void* x, DType dtype, float* y, int64_t n);
/// q8_0 and q4_0; throws Error for the others.
void quantize(const float* x, void* y, DType dtype, int64_t n);

}  // namespace llmtool
