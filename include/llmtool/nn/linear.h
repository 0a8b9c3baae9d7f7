#pragma once
// Linear: y = x W^T + b, over one weight or several stacked ones.

#include <vector>

#include "llmtool/core/exec.h"
#include "llmtool/kernels/matmul.h"
#include "llmtool/nn/param_store.h"

namespace llmtool {

/// Weights (out_i, in) whose outputs lie side by side in a row of y (sum of out_i): q, k and v read the same
/// x, as do gate and up. Weights that are neighbours in memory are multiplied as one matrix.
class Linear {
 public:
  Linear() = default;
  explicit Linear(int64_t in) : in_(in) {}
  void add(Param* weight, Param* bias);  // bias may be nullptr

  int64_t in() const { return in_; }
  int64_t out() const { return out_; }

  /// x (R, in), y (R, out). Rows are multiplied one by one, with the same bits in any company, where
  /// `few_rows` says that the product is bound by reading the weights.
  void forward(Exec& exec, Tensor x, Tensor y, bool few_rows) const;
  /// dx (R, in), where not empty, is overwritten; the parameters' gradients are accumulated. x as given to
  /// forward.
  void backward(Exec& exec, Tensor x, Tensor dy, Tensor dx);

 private:
  struct Part {
    Param *weight, *bias;
    int64_t out, offset;  // rows of the weight, first column in y
  };
  /// One past the last part that continues the matrix of part `first` in memory.
  size_t run_end(size_t first) const;

  int64_t in_ = 0, out_ = 0;
  std::vector<Part> parts_;
};

}  // namespace llmtool
