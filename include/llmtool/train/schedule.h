#pragma once
// Learning rate over the steps.

#include <cstdint>
#include <string>

namespace llmtool {

struct Schedule {
  std::string type = "cosine";  // cosine, linear, constant, warmup_stable_decay
  double learning_rate = 1e-3, min_learning_rate = 1e-4;
  int64_t warmup_steps = 0, decay_steps = 0, max_steps = 1;  // decay_steps: of warmup_stable_decay

  /// The rate of update `step` (from 0): learning_rate * (step + 1) / warmup_steps while step < warmup_steps;
  /// then from learning_rate to min_learning_rate, reached at max_steps (Loshchilov and Hutter 2017; Hu et
  /// al. 2024).
  double at(int64_t step) const;
};

}  // namespace llmtool
