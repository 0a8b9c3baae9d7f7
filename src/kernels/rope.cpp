#include "llmtool/kernels/rope.h"

#include <cmath>
#include <numbers>

#include "kernels/parallel.h"
#include "kernels/simd.h"

namespace llmtool {

namespace {
/// Llama 3.1: wavelengths beyond original / low are stretched, those below original / high kept.
double llama3_frequency(const RopeSettings& s, double frequency) {
  const double wavelength = 2 * std::numbers::pi / frequency;
  if (wavelength < s.original_positions / s.high_freq_factor) return frequency;
  if (wavelength > s.original_positions / s.low_freq_factor) return frequency / s.factor;
  const double smooth =
      (s.original_positions / wavelength - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
  return (1 - smooth) * frequency / s.factor + smooth * frequency;
}

/// YaRN: where in the ramp from kept (0) to stretched (1) the angle i of dim / 2 lies.
double yarn_ramp(const RopeSettings& s, int64_t dim, int64_t i) {
  const auto turns_at = [&](double turns) {
    return static_cast<double>(dim) * std::log(s.original_positions / (turns * 2 * std::numbers::pi)) /
           (2 * std::log(s.theta));
  };
  double low = turns_at(s.beta_fast), high = turns_at(s.beta_slow);
  if (s.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(dim - 1));
  if (low == high) high += 0.001;
  return std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
}
}  // namespace

std::vector<float> rope_frequencies(const RopeSettings& s, int64_t dim, int64_t length) {
  double theta = s.theta;
  if (s.scaling == RopeScaling::dynamic && static_cast<double>(length) > s.original_positions) {
    const auto d = static_cast<double>(dim);
    theta *=
        std::pow(s.factor * static_cast<double>(length) / s.original_positions - (s.factor - 1), d / (d - 2));
  }
  std::vector<float> frequencies(static_cast<size_t>(dim / 2));
  for (int64_t i = 0; i < dim / 2; ++i) {
    double f = 1.0 / std::pow(theta, static_cast<double>(2 * i) / static_cast<double>(dim));
    if (s.scaling == RopeScaling::linear) f /= s.factor;
    if (s.scaling == RopeScaling::factors) f /= s.factors[static_cast<size_t>(i)];
    if (s.scaling == RopeScaling::longrope) {
      const bool is_long = static_cast<double>(length) > s.original_positions;
      f /= (is_long ? s.long_factors : s.factors)[static_cast<size_t>(i)];
    }
    if (s.scaling == RopeScaling::llama3) f = llama3_frequency(s, f);
    if (s.scaling == RopeScaling::yarn) {
      const double stretched = yarn_ramp(s, dim, i);
      f = f / s.factor * stretched + f * (1 - stretched);
    }
    frequencies[static_cast<size_t>(i)] = static_cast<float>(f);
  }
  return frequencies;
}

void rope_table(Exec& exec, const RopeSettings& settings, const int32_t* positions, int64_t length,
                Tensor table) {
  if (exec.dry()) return;
  const int64_t dim = table.cols(), half = dim / 2;
  const std::vector<float> frequencies = rope_frequencies(settings, dim, length);
  for_rows(exec, table.rows(), 100 * half, [&](int64_t row) {
    float* const values = table.f32() + row * dim;
    for (int64_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(positions[row]) * frequencies[static_cast<size_t>(i)];
      values[i] = static_cast<float>(std::cos(static_cast<double>(angle)) * settings.attention_factor);
      values[half + i] = static_cast<float>(std::sin(static_cast<double>(angle)) * settings.attention_factor);
    }
  });
}

void rope(Exec& exec, Tensor table, float* x, int64_t rows, int64_t ld, int64_t heads, int64_t head_dim,
          bool backward) {
  if (exec.dry()) return;
  const int64_t dim = table.cols(), half = dim / 2, n = table.rows();
  const float sign = backward ? -1.0f : 1.0f;
  for_rows(exec, rows, heads * dim, [&](int64_t row) {
    const float *cos = table.f32() + row % n * dim, *sin = cos + half;
    for (float* v = x + row * ld; v < x + row * ld + heads * head_dim; v += head_dim) {
      simd::for_lanes(half, [&](int64_t i, auto part) {
        const simd::Vec a = simd::load(v + i, part), b = simd::load(v + half + i, part);
        const simd::Vec c = simd::load(cos + i, part), s = simd::load(sin + i, part) * sign;
        simd::store(v + i, a * c - b * s, part);
        simd::store(v + half + i, b * c + a * s, part);
      });
    }
  });
}

}  // namespace llmtool
