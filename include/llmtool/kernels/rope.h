#pragma once
// Rotary position embedding (Su et al. 2021), in the half-split form of the Llama family.

#include <cstdint>
#include <vector>

#include "llmtool/core/exec.h"

namespace llmtool {

/// Ways to reach beyond the trained context, as the reference library computes them.
enum class RopeScaling {
  none,
  linear,   // positions divided by factor (Chen et al. 2023)
  dynamic,  // theta grows with the length beyond max_positions (NTK-aware)
  llama3,   // long wavelengths divided by factor, short ones kept, a ramp between (Llama 3.1)
  factors,  // each frequency divided by its own factor, as GGUF files store llama3
  yarn,     // likewise by rotations within the trained context, and longer vectors (Peng et al. 2023)
  longrope  // factors of their own for each frequency, others beyond the trained context (Ding et al. 2024)
};

struct RopeSettings {
  double theta = 10000;
  RopeScaling scaling = RopeScaling::none;
  double factor = 1;
  double original_positions = 0;                     // the trained context; dynamic: max_position_embeddings
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
  double beta_fast = 32, beta_slow = 1;              // yarn
  double attention_factor = 1;                       // yarn, longrope: multiplies cosines and sines
  std::vector<float> factors = {};                   // (dim / 2) of `factors`, and of longrope's short texts
  std::vector<float> long_factors = {};              // (dim / 2) of longrope's long texts
  bool truncate = true;                              // yarn: the ramp begins and ends at whole dimensions
};

/// The dim / 2 angles per position, for a sequence of `length` positions.
std::vector<float> rope_frequencies(const RopeSettings& settings, int64_t dim, int64_t length);

/// table (n, dim): attention_factor times cosines, then sines, of the dim / 2 angles at each of n positions,
/// the longest of which is `length` - 1; computed in f32 as the reference library does.
void rope_table(Exec& exec, const RopeSettings& settings, const int32_t* positions, int64_t length,
                Tensor table);

/// Rotates the first dim elements of `heads` vectors of `head_dim` in each of `rows` rows of x, `ld` floats
/// apart, in place; row r by row r % n of the table (n, dim). `backward` rotates the other way.
void rope(Exec& exec, Tensor table, float* x, int64_t rows, int64_t ld, int64_t heads, int64_t head_dim,
          bool backward = false);

}  // namespace llmtool
