#pragma once
// Activations of the feed-forward part.

#include "llmtool/core/exec.h"

namespace llmtool {

enum class Activation {
  silu,
  gelu,       // Hendrycks and Gimpel 2016, with erf
  gelu_tanh,  // its approximation
  relu,
  tanh
};

/// y (R, F) = f(h) of h (R, F); gated: y = f(h[:, :F]) * h[:, F:] of h (R, 2F) (Shazeer 2020).
void activate(Exec& exec, Activation f, bool gated, Tensor h, Tensor y);

/// dh = the gradient with respect to h, from h and dy (R, F). dh may be h itself; ungated, it may be dy
/// itself.
void activate_backward(Exec& exec, Activation f, bool gated, Tensor h, Tensor dy, Tensor dh);

}  // namespace llmtool
