#pragma once
// Linear: y = x W^T + b, over one weight or several stacked ones, and what adapters make of it.

#include <vector>

#include "llmtool/core/exec.h"
#include "llmtool/kernels/matmul.h"
#include "llmtool/nn/low_rank.h"
#include "llmtool/nn/param_store.h"

namespace llmtool {

/// Weights (out_i, in) whose outputs lie side by side in a row of y (sum of out_i): q, k and v read the same
/// x, as do gate and up. Weights that are neighbours in memory are multiplied as one matrix.
///
/// A weight may have adapters: changes of low rank, of which one with a magnitude stands alone, and scales of
/// what goes into it or comes out of it, bias and all (IA3: Liu et al. 2022).
class Linear {
 public:
  struct Part {
    Param *weight, *bias;
    int64_t out, offset;  // rows of the weight, first column in y
    std::vector<LowRank> changes = {};
    std::vector<Param*> input_scales = {}, output_scales = {};  // (in), (out)

    bool alone() const { return has_magnitude() || !input_scales.empty() || !output_scales.empty(); }
    bool has_magnitude() const { return !changes.empty() && changes[0].magnitude; }
    bool trains() const;
    /// Whether backward reads what went in, which a frozen weight alone does not need.
    bool reads_input() const;
  };

  Linear() = default;
  explicit Linear(int64_t in) : in_(in) {}
  void add(Param* weight, Param* bias);  // bias may be nullptr

  int64_t in() const { return in_; }
  int64_t out() const { return out_; }
  std::vector<Part>& parts() { return parts_; }
  const std::vector<Part>& parts() const { return parts_; }
  bool trains() const;  // whether some parameter has a gradient
  bool reads_input() const;

  /// x (R, in), y (R, out).
  void forward(Exec& exec, Tensor x, Tensor y, const LinearMode& mode = {}) const;
  /// dx (R, in), where not empty, is overwritten; the parameters' gradients are accumulated. x as given to
  /// forward, in training; its shape is enough where reads_input() is false.
  void backward(Exec& exec, Tensor x, Tensor dy, Tensor dx);
  /// Brings adapters up to date with their parameters.
  void refresh(Exec& exec);

 private:
  /// One past the last part that continues the matrix of part `first` in memory.
  size_t run_end(size_t first) const;
  void multiply(Exec& exec, Tensor x, size_t first, size_t end, const LinearMode& mode, bool bias, float* y,
                int64_t y_ld) const;
  void forward_alone(Exec& exec, const Part& part, Tensor x, float* y, const LinearMode& mode) const;
  void run_backward(Exec& exec, Tensor x, Tensor dy, Tensor dx, size_t first, size_t end, Write write);
  void backward_alone(Exec& exec, Part& part, Tensor x, Tensor dy, Tensor dx, Write write);
  void magnitude_backward(Exec& exec, Part& part, Tensor x, const float* dy, int64_t dy_ld, Tensor dx);

  int64_t in_ = 0, out_ = 0;
  std::vector<Part> parts_;
};

}  // namespace llmtool
