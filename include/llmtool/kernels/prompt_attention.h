#pragma once
// Attention to a few keys that every query sees, beside its own text: LLaMA-Adapter's prompt (Zhang et al.
// 2023).

#include "llmtool/core/exec.h"

namespace llmtool {

/// Queries (N, H, D) and P keys and values (P, K, D), heads side by side in a row; strides are floats from
/// row to row.
struct PromptAttention {
  int64_t N, P, H, K, D;
  const float* q;
  int64_t q_stride;
  const float *k, *v;
  int64_t kv_stride;
  float scale;  // of the products
};

/// out (N, H, D) += gate * softmax(scale q k^T) v.
void prompt_attention(Exec& exec, const PromptAttention& in, float gate, float* out);

/// dq (stride as q's) gets more; dk and dv (stride as k's) are overwritten. Returns the gradient of the gate.
double prompt_attention_backward(Exec& exec, const PromptAttention& in, float gate, const float* dout,
                                 float* dq, float* dk, float* dv);

}  // namespace llmtool
