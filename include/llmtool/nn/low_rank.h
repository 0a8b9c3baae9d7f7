#pragma once
// LowRank: a trainable change of low rank beside a frozen weight (LoRA: Hu et al. 2021; AdaLoRA: Zhang et al.
// 2023; DoRA: Liu et al. 2024).

#include "llmtool/core/exec.h"
#include "llmtool/kernels/matmul.h"
#include "llmtool/nn/param_store.h"

namespace llmtool {

/// How the rows of a pass go through a linear layer.
struct LinearMode {
  bool few_rows = false;  // bound by reading the weights; rows one by one, with the same bits in any company
  bool training = false;  // dropout is on
};

/// A matrix that is a parameter, or lies in one beside those of other experts.
struct ParamMatrix {
  Param* param = nullptr;
  Shape shape = {};
  int64_t first = 0;  // element

  ParamMatrix() = default;
  ParamMatrix(Param* all) : param(all), shape(all->value.shape) {}
  ParamMatrix(Param* of, Shape s, int64_t at) : param(of), shape(s), first(at) {}
  Tensor value() const { return {param->value.f32() + first, shape}; }
  Tensor grad() const { return param->grad ? Tensor(param->grad.f32() + first, shape) : Tensor(); }
};

/// y = W x + scale B (E A) x, where W is (out, in). With a magnitude m, y = m (W + scale B A) x / |W + scale
/// B A|, the norm being that of each row, which counts as a constant in backward.
struct LowRank {
  ParamMatrix a;               // (R, in)
  ParamMatrix b;               // (out, R)
  Param* e = nullptr;          // (R, 1): AdaLoRA's singular values
  Param* magnitude = nullptr;  // (out): DoRA
  float scale = 1;
  double dropout = 0;       // of x on its way into A
  uint64_t stream = 0;      // of the dropout's random numbers
  Tensor weight_squares{};  // (out): |W|^2 by rows, of DoRA
  Tensor gains{};           // (out): m / |W + scale B A|, by refresh()

  int64_t rank() const { return a.shape[0]; }
  int64_t in() const { return a.shape[1]; }
  int64_t out() const { return b.shape[0]; }

  /// y (rows, out; y_ld apart) += the change alone, of x (rows, in); magnitude apart.
  void add_change(Exec& exec, Tensor x, const LinearMode& mode, float* y, int64_t y_ld) const;
  /// From dy (rows, out; dy_ld apart): dx (rows, in), where not empty, gets more; gradients are accumulated.
  void change_backward(Exec& exec, Tensor x, const float* dy, int64_t dy_ld, Tensor dx);
  /// x behind dropout: x itself where there is none, else in scratch.
  Tensor dropped(Exec& exec, Tensor x, const LinearMode& mode) const;
  /// dx += d, the gradient behind dropout.
  void add_through_dropout(Exec& exec, Tensor d, Tensor dx) const;

  /// Makes `weight_squares`, once, and `gains`, after every change of A, B, m.
  void measure(Exec& exec, WeightView weight);
  void refresh(Exec& exec, WeightView weight);

 private:
  Tensor project(Exec& exec, Tensor x, const LinearMode& mode) const;  // A x (rows, R), in scratch
};

}  // namespace llmtool
