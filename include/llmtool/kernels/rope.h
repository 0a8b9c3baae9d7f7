#pragma once
// Rotary position embedding (Su et al. 2021), in the half-split form of the Llama family.

#include <cstdint>

#include "llmtool/core/exec.h"

namespace llmtool {

/// table (n, D): cosines, then sines, of the D / 2 angles at each of n positions; computed in f32 as the
/// reference library does.
void rope_table(Exec& exec, const int32_t* positions, double theta, Tensor table);

/// Rotates `heads` vectors of D in each of `rows` rows of x, `ld` floats apart, in place; row r by row r % n
/// of the table. `backward` rotates the other way.
void rope(Exec& exec, Tensor table, float* x, int64_t rows, int64_t ld, int64_t heads, bool backward = false);

}  // namespace llmtool
