#pragma once
// Softmax and the cross-entropy loss of next-token prediction.

#include "llmtool/core/exec.h"

namespace llmtool {

struct CrossEntropy {
  double z_loss = 0;           // coefficient of (log Z)^2 (Chowdhery et al. 2022)
  double label_smoothing = 0;  // share of the target that all V classes divide (Szegedy et al. 2016)
  const float* class_weights = nullptr;  // (V): factor of the whole loss, by target
  double scale = 1;                      // of the gradient
};

/// For each row of logits (R, V): losses[r] = log Z - (1 - s) logits[targets[r]] - s mean(logits) + z_loss
/// (log Z)^2, times the target's class weight; 0 where the target is -1. With `gradient`, the logits are
/// overwritten by `scale` times the loss's gradient.
void cross_entropy(Exec& exec, Tensor logits, const int32_t* targets, const CrossEntropy& terms,
                   bool gradient, double* losses);

}  // namespace llmtool
