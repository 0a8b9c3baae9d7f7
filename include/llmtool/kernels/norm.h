#pragma once
// Normalisation of rows: LayerNorm (Ba et al. 2016) and RMSNorm (Zhang and Sennrich 2019).

#include "llmtool/core/exec.h"

namespace llmtool {

enum class NormKind { layer, rms };

struct NormWeights {
  NormKind kind;
  double eps;
  Tensor weight;     // (C)
  Tensor bias;       // (C) or empty
  float offset = 0;  // added to every weight: 1 in the Gemma family
};

/// y (R, C) = (x - mean) / sqrt(var + eps) * (offset + weight) + bias, or x / sqrt(mean(x^2) + eps) * (offset
/// + weight). y may be x.
void norm(Exec& exec, const NormWeights& w, Tensor x, Tensor y);

/// dx (R, C) += the gradient with respect to x; dweight and dbias (C) likewise, where they are not empty.
void norm_backward(Exec& exec, const NormWeights& w, Tensor x, Tensor dy, Tensor dx, Tensor dweight,
                   Tensor dbias);

}  // namespace llmtool
