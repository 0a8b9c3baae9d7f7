#pragma once
// AdaLoRA: where the ranks are spent (Zhang et al. 2023).

#include <map>
#include <string>
#include <vector>

#include "llmtool/core/arena.h"
#include "llmtool/io/safetensors.h"
#include "llmtool/nn/param_store.h"
#include "llmtool/peft/adapter_config.h"

namespace llmtool {

/// A module's A (R, in), E (R, 1), B (out, R).
struct Triplets {
  std::string name;  // of the module
  Param *a, *e, *b;
};

/// Keeps the smoothed importance of every element, and sets the singular values of the least important
/// triplets to zero as the budget falls.
class RankAllocator {
 public:
  RankAllocator(std::vector<Triplets> modules, AdapterConfig config);

  /// After update `step`, from 1, of which the gradients are still there; `gradient_scale` was their factor.
  void update(int64_t step, double gradient_scale);
  /// The mean over all A and B of |P - I|, P being A A^T and B^T B; adds `scale` times its gradient.
  double regularize(double scale) const;
  void set_total_steps(int64_t steps) { config_.total_step = steps; }
  void check() const;  // throws UsageError where the schedule does not fit

  /// Triplets that are left of each module; empty before the first allocation.
  const std::map<std::string, std::vector<bool>>& kept() const { return kept_; }
  void set_kept(std::map<std::string, std::vector<bool>> kept) { kept_ = std::move(kept); }
  /// The state, as tensors of a file.
  std::vector<NamedTensor> state() const;
  void load_state(const SafetensorsFile& file);
  const std::vector<Triplets>& modules() const { return modules_; }

 private:
  struct Smoothed {
    std::vector<float> importance, uncertainty;
  };
  int64_t initial_budget() const;
  int64_t budget(int64_t step, bool& allocates) const;
  void smooth(const Param& p, double gradient_scale);
  void allocate(int64_t budget);
  void mask();

  std::vector<Triplets> modules_;
  AdapterConfig config_;
  std::map<std::string, Smoothed> smoothed_;  // by parameter
  std::map<std::string, std::vector<bool>> kept_;
};

}  // namespace llmtool
