#pragma once
// The elementwise updates and reductions of optimization.

#include "llmtool/core/exec.h"

namespace llmtool {

struct AdamWStep {
  double learning_rate, beta1, beta2, eps, weight_decay;
  double gradient_scale;  // multiplies every gradient first
  int64_t step;           // from 1, for the bias correction
};

/// AdamW (Loshchilov and Hutter 2019) on n elements: p <- p (1 - lr wd) - lr m^ / (sqrt(v^) + eps).
void adamw(Exec& exec, const AdamWStep& s, float* p, const float* g, float* m, float* v, int64_t n);

/// The sum of squares of x (n), in double, in an order that depends on n alone.
double sum_of_squares(Exec& exec, const float* x, int64_t n);

void fill_zero(Exec& exec, Tensor x);

}  // namespace llmtool
