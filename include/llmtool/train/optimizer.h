#pragma once
// AdamW over a ParamStore.

#include <filesystem>

#include "llmtool/core/exec.h"
#include "llmtool/nn/param_store.h"

namespace llmtool {

struct AdamWConfig {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double weight_decay = 0.1;  // of parameters with `decay`: matrices, not norms and biases
};

class AdamW {
 public:
  AdamW(ParamStore& params, AdamWConfig config);  // both moments zero

  /// One update from the parameters' gradients times gradient_scale.
  void step(Exec& exec, double learning_rate, double gradient_scale);
  int64_t steps() const { return steps_; }

  /// optimizer.safetensors: "NAME.exp_avg" and "NAME.exp_avg_sq" of every trainable parameter, f32.
  void save(const std::filesystem::path& file) const;
  void load(const std::filesystem::path& file, int64_t steps);

 private:
  /// Calls visit(param, first moment, second moment) for the trainable ones.
  template <class Visit>
  void each(Visit visit) const;

  ParamStore& params_;
  AdamWConfig config_;
  MemoryBlock first_, second_;
  int64_t steps_ = 0;
};

/// The Euclidean norm of all gradients.
double gradient_norm(Exec& exec, const ParamStore& params);

}  // namespace llmtool
