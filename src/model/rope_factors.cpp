#include "model/rope_factors.h"

#include <cmath>
#include <numbers>

namespace llmtool {

namespace {
/// Factors are made in single precision: at the end of a ramp down to 1/64 they are 4e-7 off, at most 1e-6.
constexpr double kTolerance = 4e-6;

bool make(const RopeSettings& settings, const std::vector<float>& factors) {
  const std::vector<float> made = rope_factors(settings, static_cast<int64_t>(2 * factors.size()));
  for (size_t i = 0; i < factors.size(); ++i) {
    if (!(std::abs(made[i] / factors[i] - 1) <= kTolerance)) return false;
  }
  return true;
}

double rounded(double value) { return std::round(value * 1e4) / 1e4; }
}  // namespace

std::vector<float> rope_factors(const RopeSettings& settings, int64_t dim) {
  const std::vector<float> with = rope_frequencies(settings, dim, 1),
                           without = rope_frequencies({.theta = settings.theta}, dim, 1);
  std::vector<float> factors(with.size());
  for (size_t i = 0; i < with.size(); ++i) factors[i] = without[i] / with[i];
  return factors;
}

std::optional<RopeSettings> settings_of_factors(const std::vector<float>& factors, double theta,
                                                double original_positions) {
  if (factors.empty() || !(factors.back() >= 1)) return std::nullopt;
  RopeSettings s{.theta = theta, .scaling = RopeScaling::linear, .factor = factors.back()};
  if (make(s, factors)) return s;
  if (s.factor == 1) return std::nullopt;
  // What is kept of a frequency is a straight line in turns per position: from none at low / original to all
  // at high / original, and level on both sides. So the line is where it is steepest.
  const auto turns = [&](size_t i) {
    const auto share = static_cast<double>(i) / static_cast<double>(factors.size());
    return std::pow(theta, -share) / (2 * std::numbers::pi);
  };
  const auto kept = [&](size_t i) {
    return (1 / static_cast<double>(factors[i]) - 1 / s.factor) / (1 - 1 / s.factor);
  };
  double slope = 0, low = 0, high = 0;
  for (size_t i = 0; i + 1 < factors.size(); ++i) {
    const double here = (kept(i) - kept(i + 1)) / (turns(i) - turns(i + 1));
    if (!(here > slope)) continue;
    slope = here;
    low = turns(i + 1) - kept(i + 1) / slope;
    high = turns(i) + (1 - kept(i)) / slope;
  }
  if (!(low > 0 && high > low)) return std::nullopt;
  s.scaling = RopeScaling::llama3;
  s.original_positions = original_positions > 0 ? original_positions : std::max(1.0, std::round(1 / low));
  for (const bool round : {true, false}) {
    s.low_freq_factor = low * s.original_positions;
    s.high_freq_factor = high * s.original_positions;
    if (round)
      s.low_freq_factor = rounded(s.low_freq_factor), s.high_freq_factor = rounded(s.high_freq_factor);
    if (make(s, factors)) return s;
  }
  return std::nullopt;
}

}  // namespace llmtool
