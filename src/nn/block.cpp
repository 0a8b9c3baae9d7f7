#include "llmtool/nn/block.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "llmtool/kernels/attention.h"

namespace llmtool {

namespace {
// The streams of a layer's dropout masks.
enum : uint64_t { kAttentionStream, kAttentionResidualStream, kMlpResidualStream };

Dropout dropout_of(const Sequences& s, double rate, const Rng& rng, uint64_t stream) {
  return {s.training ? rate : 0.0, rng.split(stream)};
}

AttentionInput self_attention(const Block& block, const Sequences& s, const Rng& rng, Tensor qkv) {
  const int64_t width = qkv.cols(), D = block.head_dim;
  const float* q = qkv.f32();
  const float* k = q + block.heads * D;
  return {s.B,
          s.T,
          s.T,
          block.heads,
          block.kv_heads,
          D,
          q,
          width,
          k,
          k + block.kv_heads * D,
          width,
          1.0f / std::sqrt(static_cast<float>(D)),
          dropout_of(s, block.attention_dropout, rng, kAttentionStream)};
}

/// Appends the keys and values of qkv's rows to the caches.
void append(const Block& block, const Sequences& s, Tensor qkv) {
  const int64_t width = block.kv_heads * block.head_dim;
  for (int64_t row = 0; row < s.B * s.T; ++row) {
    const KvRows& cache = s.past[row / s.T];
    const int64_t at = (cache.past + row % s.T) * width;
    const float* k = qkv.f32() + row * qkv.cols() + block.heads * block.head_dim;
    std::memcpy(cache.keys + at, k, width * sizeof(float));
    std::memcpy(cache.values + at, k + width, width * sizeof(float));
  }
}
}  // namespace

void Block::attend(Exec& exec, const Sequences& s, const Rng& rng, Tensor qkv_rows, Tensor result,
                   Tensor lse) const {
  if (s.rope) {
    rope(exec, s.rope, qkv_rows.f32(), s.B * s.T, qkv_rows.cols(), heads + kv_heads);
  }
  AttentionInput in = self_attention(*this, s, rng, qkv_rows);
  if (s.past.empty()) return attention(exec, in, result.f32(), lse.f32());
  if (exec.dry()) return;
  append(*this, s, qkv_rows);
  if (s.T == 1) {
    std::vector<const float*> keys, values;
    std::vector<int64_t> lengths;
    for (const KvRows& cache : s.past) {
      keys.push_back(cache.keys);
      values.push_back(cache.values);
      lengths.push_back(cache.past + 1);
    }
    return attention_decode(exec, s.B, heads, kv_heads, head_dim, in.q, in.q_stride, keys.data(),
                            values.data(), lengths.data(), in.scale, result.f32());
  }
  in.S = s.past[0].past + s.T;
  in.k = s.past[0].keys;
  in.v = s.past[0].values;
  in.kv_stride = kv_heads * head_dim;
  attention(exec, in, result.f32(), nullptr);
}

void Block::forward(Exec& exec, const Sequences& s, const Rng& rng, Tensor x, Tensor y,
                    BlockSaved* saved) const {
  ArenaScope scope(exec.scratch);
  const int64_t B = s.B, T = s.T, C = x.cols();
  Arena& kept = saved ? exec.saved : exec.scratch;
  const bool few_rows = T == 1 && !s.past.empty();
  const auto observe = [&](const char* name, Tensor value) {
    if (s.observer && *s.observer) (*s.observer)(name, value);
  };
  const Tensor qkv_rows = kept.take({B, T, qkv.out()}), attended = kept.take({B, T, out.in()});
  const Tensor lse = saved ? kept.take({B, heads, T}) : Tensor();
  const Tensor r = kept.take({B, T, C}), h = kept.take({B, T, up.out()});
  {
    ArenaScope inner(exec.scratch);
    const Tensor n = exec.scratch.take({B, T, C});
    attention_norm.forward(exec, x, n);
    observe("attention_norm", n);
    qkv.forward(exec, n, qkv_rows, few_rows);
    observe("qkv", qkv_rows);
    attend(exec, s, rng, qkv_rows, attended, lse);
    observe("attention", attended);
    out.forward(exec, attended, n, few_rows);
    observe("attention_out", n);
    add_dropout(exec, x, n, dropout_of(s, residual_dropout, rng, kAttentionResidualStream), r);
    mlp_norm.forward(exec, r, n);
    observe("mlp_norm", n);
    up.forward(exec, n, h, few_rows);
    observe("mlp_up", h);
  }
  if (saved) *saved = {x, qkv_rows, attended, lse, r, h};
  if (!y) return;
  const Tensor activated_h = exec.scratch.take({B, T, activated()});
  activate(exec, activation, gated, h, activated_h);
  observe("mlp_activation", activated_h);
  down.forward(exec, activated_h, y, few_rows);
  observe("mlp_out", y);
  add_dropout(exec, r, y, dropout_of(s, residual_dropout, rng, kMlpResidualStream), y);
  observe("block", y);
}

void Block::mlp_backward(Exec& exec, const Sequences& s, const Rng& rng, const BlockSaved& saved, Tensor d) {
  ArenaScope scope(exec.scratch);
  const int64_t B = s.B, T = s.T, C = d.cols();
  const Tensor dh = exec.scratch.take({B, T, up.out()});
  {
    ArenaScope inner(exec.scratch);
    const Tensor a = exec.scratch.take({B, T, activated()}), da = exec.scratch.take({B, T, activated()});
    activate(exec, activation, gated, saved.h, a);
    Tensor dm = d;
    if (const Dropout dropout = dropout_of(s, residual_dropout, rng, kMlpResidualStream)) {
      dm = exec.scratch.take({B, T, C});
      apply_dropout(exec, d, dropout, dm);
    }
    down.backward(exec, a, dm, da);
    activate_backward(exec, activation, gated, saved.h, da, dh);
  }
  const Tensor n = exec.scratch.take({B, T, C}), dn = exec.scratch.take({B, T, C});
  mlp_norm.forward(exec, saved.r, n);
  up.backward(exec, n, dh, dn);
  mlp_norm.backward(exec, saved.r, dn, d);
}

void Block::attention_part_backward(Exec& exec, const Sequences& s, const Rng& rng, const BlockSaved& saved,
                                    Tensor d) {
  ArenaScope scope(exec.scratch);
  const int64_t B = s.B, T = s.T, C = d.cols();
  const Tensor dqkv = exec.scratch.take({B, T, qkv.out()});
  {
    ArenaScope inner(exec.scratch);
    const Tensor da = exec.scratch.take({B, T, out.in()});
    Tensor dout = d;
    if (const Dropout dropout = dropout_of(s, residual_dropout, rng, kAttentionResidualStream)) {
      dout = exec.scratch.take({B, T, C});
      apply_dropout(exec, d, dropout, dout);
    }
    out.backward(exec, saved.attention, dout, da);
    float* const dq = dqkv.f32();
    float* const dk = dq + heads * head_dim;
    attention_backward(exec, self_attention(*this, s, rng, saved.qkv), saved.attention.f32(), saved.lse.f32(),
                       da.f32(), dq, dk, dk + kv_heads * head_dim);
  }
  if (s.rope) rope(exec, s.rope, dqkv.f32(), B * T, dqkv.cols(), heads + kv_heads, true);
  const Tensor n = exec.scratch.take({B, T, C}), dn = exec.scratch.take({B, T, C});
  attention_norm.forward(exec, saved.x, n);
  qkv.backward(exec, n, dqkv, dn);
  attention_norm.backward(exec, saved.x, dn, d);
}

void Block::backward(Exec& exec, const Sequences& s, const Rng& rng, const BlockSaved& saved, Tensor d) {
  mlp_backward(exec, s, rng, saved, d);
  attention_part_backward(exec, s, rng, saved, d);
}

}  // namespace llmtool
