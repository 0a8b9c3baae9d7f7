#pragma once
// Storage types to f32 and back.

#include <cstdint>

#include "llmtool/core/tensor.h"

namespace llmtool {

/// y[i] = float(x[i]) for n elements (whole blocks) of any dtype but i32; x need not be aligned. A block's
/// values are ggml's bit for bit: every product of a scale and a number fits in f32, so none is rounded.
/// Those of nf4 and nf4_dq are level * scale, rounded once. Formats: ggml's block_q8_0 to block_q6_K; OCP
/// 8-bit floats (1.0, 2023); 4-bit NormalFloat (Dettmers et al. 2023, appendix E).
void to_f32(const void* x, DType dtype, float* y, int64_t n);
/// y[i] = dtype(x[i]) for n elements (whole blocks) of f32, bf16 or f16, rounded to nearest even, or q8_0 or
/// q4_0, whose blocks are those of ggml's reference quantization: the scale is the greatest magnitude over
/// 127 (q8_0), or the value of greatest magnitude over -8 (q4_0); or nf4 or nf4_dq, whose scale is the
/// greatest magnitude and whose values go to the nearest level. Throws Error where a block holds infinity or
/// NaN, or values whose scale cannot be held (by an f16, but for nf4).
void from_f32(const float* x, void* y, DType dtype, int64_t n);

}  // namespace llmtool
