#pragma once
// AdamW over the trainable parameters of one or several stores.

#include <filesystem>
#include <vector>

#include "llmtool/core/exec.h"
#include "llmtool/nn/param_store.h"

namespace llmtool {

struct AdamWConfig {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double weight_decay = 0.1;  // of parameters with `decay`: matrices, not norms and biases
};

/// Stores whose trainable parameters are learnt together: a model's own, an adapter's.
using ParamStores = std::vector<ParamStore*>;

class AdamW {
 public:
  AdamW(ParamStores stores, AdamWConfig config);  // both moments zero

  /// One update from the parameters' gradients times gradient_scale; Param::rate_scale times learning_rate is
  /// a parameter's rate.
  void step(Exec& exec, double learning_rate, double gradient_scale);
  int64_t steps() const { return steps_; }

  /// optimizer.safetensors: "NAME.exp_avg" and "NAME.exp_avg_sq" of every trainable parameter, f32.
  void save(const std::filesystem::path& file) const;
  void load(const std::filesystem::path& file, int64_t steps);

 private:
  /// Calls visit(param, first moment, second moment) for the trainable ones.
  template <class Visit>
  void each(Visit visit) const;

  ParamStores stores_;
  AdamWConfig config_;
  MemoryBlock first_, second_;
  int64_t steps_ = 0;
};

int64_t parameter_count(const ParamStores& stores);  // elements
int64_t trainable_count(const ParamStores& stores);  // elements
void zero_gradients(Exec& exec, const ParamStores& stores);
/// The Euclidean norm of all gradients.
double gradient_norm(Exec& exec, const ParamStores& stores);

}  // namespace llmtool
