#pragma once
// Blocks of ggml and of QLoRA to f32 and back; the front is kernels/convert.h.

#include <cstdint>

#include "llmtool/core/tensor.h"

namespace llmtool {

bool is_block_type(DType dtype);
/// y (n) = the values of n / block blocks at x (not aligned).
void dequantize(const void* x, DType dtype, float* y, int64_t n);
/// q8_0, q4_0, nf4 and nf4_dq; throws Error for the others.
void quantize(const float* x, void* y, DType dtype, int64_t n);

/// One block of nf4 or nf4_dq.
void read_nf4(const uint8_t* block, float* y);
void read_nf4_dq(const uint8_t* block, float* y);
void write_nf4(const float* x, uint8_t* block);
void write_nf4_dq(const float* x, uint8_t* block);

}  // namespace llmtool
