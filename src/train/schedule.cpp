#include "llmtool/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace llmtool {

double Schedule::at(int64_t step) const {
  if (step < warmup_steps)
    return learning_rate * static_cast<double>(step + 1) / static_cast<double>(warmup_steps);
  if (type == "constant") return learning_rate;
  const int64_t begin =
      type == "warmup_stable_decay" ? std::max(warmup_steps, max_steps - decay_steps) : warmup_steps;
  if (step < begin) return learning_rate;
  const double length = static_cast<double>(std::max<int64_t>(1, max_steps - begin));
  const double progress = std::min(1.0, static_cast<double>(step - begin) / length);
  const double share = type == "cosine" ? 0.5 * (1 + std::cos(std::numbers::pi * progress)) : 1 - progress;
  return min_learning_rate + share * (learning_rate - min_learning_rate);
}

}  // namespace llmtool
