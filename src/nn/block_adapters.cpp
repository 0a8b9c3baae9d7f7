// Block: learnt prefixes and prompts of its attention.

#include "llmtool/kernels/optimizer.h"
#include "llmtool/kernels/prompt_attention.h"
#include "llmtool/nn/block.h"

namespace llmtool {

void Block::write_prefix(Exec& exec, const Sequences& s, Tensor qkv_rows) const {
  const int64_t width = 2 * kv_heads * head_dim, ld = prefix.values->value.cols();
  for (int64_t row = 0; !exec.dry() && row < s.rows(); ++row) {
    const int64_t p = s.positions[row];
    if (p >= prefix.count()) continue;
    std::copy_n(prefix.values->value.f32() + p * ld + prefix.column, width,
                qkv_rows.f32() + row * qkv_rows.cols() + heads * head_dim);
  }
}

/// What lies at the prefix's positions ends here.
void Block::prefix_backward(Exec& exec, const Sequences& s, Tensor dqkv) {
  const int64_t width = 2 * kv_heads * head_dim, ld = prefix.values->value.cols();
  for (int64_t row = 0; !exec.dry() && row < s.rows(); ++row) {
    const int64_t p = s.positions[row];
    if (p >= prefix.count()) continue;
    float* const d = dqkv.f32() + row * dqkv.cols() + heads * head_dim;
    for (int64_t i = 0; prefix.values->grad && i < width; ++i)
      prefix.values->grad.f32()[p * ld + prefix.column + i] += d[i];
    std::fill_n(d, width, 0.0f);
  }
}

Tensor Block::prompt_rows(Exec& exec, Tensor raw) const {
  const int64_t P = prompt.tokens->value.rows(), kv_width = kv_heads * head_dim;
  const Tensor rows = exec.scratch.take({P, qkv.out()});
  qkv.forward(exec, prompt.tokens->value, rows);
  if (!k_norm) return rows;
  ArenaScope scope(exec.scratch);
  float* const keys = rows.f32() + heads * head_dim;
  copy_rows(exec, keys, rows.cols(), raw.f32(), kv_width, P, kv_width);
  const Tensor normed = exec.scratch.take(raw.shape);
  const int64_t D = k_norm.weight->value.size();
  const Shape by_norm{raw.size() / D, D};
  k_norm.forward(exec, {raw.f32(), by_norm}, {normed.f32(), by_norm});
  copy_rows(exec, normed.f32(), kv_width, keys, rows.cols(), P, kv_width);
  return rows;
}

namespace {
PromptAttention input_of(const Block& b, Tensor qkv_rows, Tensor prompt_rows) {
  const float* const k = prompt_rows.f32() + b.heads * b.head_dim;
  return {qkv_rows.rows(),
          prompt_rows.rows(),
          b.heads,
          b.kv_heads,
          b.head_dim,
          qkv_rows.f32(),
          qkv_rows.cols(),
          k,
          k + b.kv_heads * b.head_dim,
          prompt_rows.cols(),
          b.rules.scale};
}
}  // namespace

void Block::add_prompt(Exec& exec, Tensor qkv_rows, Tensor result) const {
  ArenaScope scope(exec.scratch);
  const Tensor raw = exec.scratch.take({prompt.tokens->value.rows(), kv_heads * head_dim});
  const Tensor rows = prompt_rows(exec, raw);
  if (exec.dry()) return;
  prompt_attention(exec, input_of(*this, qkv_rows, rows), *prompt.gate->value.f32(), result.f32());
}

void Block::prompt_backward(Exec& exec, Tensor qkv_rows, Tensor dresult, Tensor dqkv) {
  ArenaScope scope(exec.scratch);
  const int64_t P = prompt.tokens->value.rows(), kv_width = kv_heads * head_dim;
  const Tensor raw = exec.scratch.take({P, kv_width});
  const Tensor rows = prompt_rows(exec, raw), drows = exec.scratch.take(rows.shape);
  fill_zero(exec, drows);
  float* const dk = drows.f32() + heads * head_dim;
  const float gate = exec.dry() ? 0 : *prompt.gate->value.f32();
  const double dgate = prompt_attention_backward(exec, input_of(*this, qkv_rows, rows), gate, dresult.f32(),
                                                 dqkv.f32(), dk, dk + kv_width);
  if (!exec.dry() && prompt.gate->grad) *prompt.gate->grad.f32() += static_cast<float>(dgate);
  if (k_norm) {
    const Tensor dy = exec.scratch.take(raw.shape), dx = exec.scratch.take(raw.shape);
    copy_rows(exec, dk, drows.cols(), dy.f32(), kv_width, P, kv_width);
    fill_zero(exec, dx);
    const int64_t D = k_norm.weight->value.size();
    const Shape by_norm{raw.size() / D, D};
    k_norm.backward(exec, {raw.f32(), by_norm}, {dy.f32(), by_norm}, {dx.f32(), by_norm});
    copy_rows(exec, dx.f32(), kv_width, dk, drows.cols(), P, kv_width);
  }
  const Tensor dtokens = exec.scratch.take(prompt.tokens->value.shape);
  qkv.backward(exec, prompt.tokens->value, drows, dtokens);
  if (prompt.tokens->grad)
    add_rows(exec, dtokens.f32(), dtokens.cols(), 1, prompt.tokens->grad.f32(), dtokens.cols(), P,
             dtokens.cols());
}

}  // namespace llmtool
