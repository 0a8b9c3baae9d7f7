#pragma once
// Softmax and the cross-entropy loss of next-token prediction.

#include "llmtool/core/exec.h"

namespace llmtool {

/// For each row of logits (R, V): losses[r] = log Z - logits[targets[r]] + z_loss * (log Z)^2, 0 where the
/// target is -1 (z-loss: Chowdhery et al. 2022). With `gradient`, the logits are overwritten by `scale` times
/// the loss's gradient.
void cross_entropy(Exec& exec, Tensor logits, const int32_t* targets, double z_loss, double scale,
                   bool gradient, double* losses);

}  // namespace llmtool
