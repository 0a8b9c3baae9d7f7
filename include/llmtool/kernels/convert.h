#pragma once
// Storage types to f32 and back.

#include <cstdint>

#include "llmtool/core/tensor.h"

namespace llmtool {

/// y[i] = float(x[i]) for n elements of dtype f32, bf16 or f16.
void to_f32(const void* x, DType dtype, float* y, int64_t n);
/// y[i] = dtype(x[i]), rounded to nearest even.
void from_f32(const float* x, void* y, DType dtype, int64_t n);

}  // namespace llmtool
