#pragma once
// The factors that a GGUF file's rope_freqs.weight holds: by what each rotary frequency is divided.

#include <optional>
#include <vector>

#include "llmtool/kernels/rope.h"

namespace llmtool {

/// By what these settings divide each of dim / 2 frequencies, in a text of the trained length.
std::vector<float> rope_factors(const RopeSettings& settings, int64_t dim);

/// The llama3 (or linear) settings that make these factors of dim / 2 frequencies; none where there are none.
/// Only the ratios original / low_freq_factor and original / high_freq_factor show in factors:
/// `original_positions` is taken where it is above 0, and else that by which low_freq_factor is 1.
std::optional<RopeSettings> settings_of_factors(const std::vector<float>& factors, double theta,
                                                double original_positions);

}  // namespace llmtool
