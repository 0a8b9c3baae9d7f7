#include "llmtool/nn/block.h"

#include <vector>

#include "llmtool/kernels/optimizer.h"
#include "llmtool/kernels/prompt_attention.h"

namespace llmtool {

namespace {
// The streams of a layer's dropout masks.
enum : uint64_t { kAttentionStream, kAttentionResidualStream, kMlpResidualStream };

Dropout dropout_of(const Sequences& s, double rate, const Rng& rng, uint64_t stream) {
  return {s.training ? rate : 0.0, rng.split(stream)};
}

/// Appends the keys and values of qkv's rows to the caches.
void append(const Block& block, const Sequences& s, Tensor qkv) {
  const int64_t width = block.kv_heads * block.head_dim, each = s.starts[1];
  for (int64_t row = 0; row < s.rows(); ++row) {
    const KvRows& cache = s.past[static_cast<size_t>(row / each)];
    const float* const key = qkv.f32() + row * qkv.cols() + block.heads * block.head_dim;
    store_kv(cache, cache.past + row % each, key, key + width, width);
  }
}

/// A norm over whole rows (R, heads * D), or over each head's D.
Tensor per_norm(const Norm& norm, Tensor rows) {
  const int64_t width = norm.weight->value.size();
  return {rows.f32(), {rows.size() / width, width}};
}

/// The gradient with respect to a norm's input, in fresh scratch.
Tensor through(Exec& exec, Norm& norm, Tensor input, Tensor dy) {
  const Tensor dx = exec.scratch.take(input.shape);
  fill_zero(exec, dx);
  norm.backward(exec, input, dy, dx);
  return dx;
}

/// d += the gradient with respect to a norm's input, or dn itself where there is no norm.
void add_through(Exec& exec, Norm& norm, Tensor input, Tensor dn, Tensor d) {
  if (norm) return norm.backward(exec, input, dn, d);
  add_dropout(exec, d, dn, Dropout(), d);
}
}  // namespace

/// What a forward pass runs with.
struct Block::Pass {
  Exec& exec;
  const Sequences& s;
  const Rng& rng;
  Arena& kept;  // for what backward needs
  LinearMode mode;

  void observe(const char* name, Tensor value) const {
    if (s.observer && *s.observer) (*s.observer)(name, value);
  }
  Tensor scratch(int64_t cols) const { return exec.scratch.take({s.rows(), cols}); }
  Tensor keep(int64_t cols) const { return kept.take({s.rows(), cols}); }
};

AttentionInput Block::attention_input(const Sequences& s, const Rng& rng, Tensor qkv) const {
  const float* q = qkv.f32();
  const float* k = q + heads * head_dim;
  AttentionInput in{s.starts,   0,        heads,
                    kv_heads,   head_dim, q,
                    qkv.cols(), k,        k + kv_heads * head_dim,
                    qkv.cols(), rules,    dropout_of(s, attention_dropout, rng, kAttentionStream)};
  in.rules.alibi = s.alibi;
  if (prefix.per_query) {
    const Tensor values = prefix.values->value;
    in.rules.prefix = {values.f32() + prefix.column, values.rows(), values.cols()};
  }
  return in;
}

void Block::normalize_heads(const Pass& pass, Tensor qkv_rows, BlockSaved& kept) const {
  const int64_t width = heads * head_dim, kv_width = kv_heads * head_dim;
  ArenaScope scope(pass.exec.scratch);
  kept.q_raw = pass.keep(width);
  kept.k_raw = pass.keep(kv_width);
  const auto normalize = [&](const Norm& norm, Tensor raw, float* column) {
    copy_rows(pass.exec, column, qkv_rows.cols(), raw.f32(), raw.cols(), raw.rows(), raw.cols());
    const Tensor normed = pass.scratch(raw.cols());
    norm.forward(pass.exec, per_norm(norm, raw), per_norm(norm, normed));
    copy_rows(pass.exec, normed.f32(), raw.cols(), column, qkv_rows.cols(), raw.rows(), raw.cols());
  };
  normalize(q_norm, kept.q_raw, qkv_rows.f32());
  normalize(k_norm, kept.k_raw, qkv_rows.f32() + width);
}

void Block::attend(const Pass& pass, Tensor qkv_rows, Tensor result, Tensor lse) const {
  Exec& exec = pass.exec;
  const Sequences& s = pass.s;
  if (const Tensor table = s.rope[local_rope]) {
    rope(exec, table, qkv_rows.f32(), s.rows(), qkv_rows.cols(), heads + kv_heads, head_dim);
  }
  if (prefix.in_rows()) write_prefix(exec, s, qkv_rows);
  AttentionInput in = attention_input(s, pass.rng, qkv_rows);
  if (s.past.empty()) return attention(exec, in, result.f32(), lse.f32());
  if (exec.dry()) return;
  append(*this, s, qkv_rows);
  if (s.decoding) {
    return attention_decode(exec, heads, kv_heads, head_dim, in.q, in.q_stride, s.past, in.rules,
                            result.f32());
  }
  in.past = s.past[0].past;
  in.cache = s.past.data();
  attention(exec, in, result.f32(), nullptr);
}

/// n = attention_norm(x) where there is one (x itself else), and everything up to kept.r.
void Block::attention_part(const Pass& pass, Tensor x, Tensor n, BlockSaved& kept) const {
  Exec& exec = pass.exec;
  ArenaScope scope(exec.scratch);
  if (attention_norm) {
    attention_norm.forward(exec, x, n);
    pass.observe("attention_norm", n);
  }
  qkv.forward(exec, attention_norm ? n : x, kept.qkv, pass.mode);
  pass.observe("qkv", kept.qkv);
  if (q_norm) normalize_heads(pass, kept.qkv, kept);
  attend(pass, kept.qkv, kept.attention, kept.lse);
  pass.observe("attention", kept.attention);
  Tensor mixed = kept.attention;
  if (prompt.tokens && !prompt.behind_out) {
    kept.mixed = mixed = pass.keep(out.in());
    copy_rows(exec, kept.attention.f32(), out.in(), mixed.f32(), out.in(), mixed.rows(), out.in());
    add_prompt(exec, kept.qkv, mixed);
  }
  Tensor a = shared_norm ? pass.scratch(x.cols()) : n;
  if (attention_out_norm) {
    kept.attention_raw = pass.keep(x.cols());
    out.forward(exec, mixed, kept.attention_raw, pass.mode);
    attention_out_norm.forward(exec, kept.attention_raw, a);
  } else {
    out.forward(exec, mixed, a, pass.mode);
  }
  if (prompt.tokens && prompt.behind_out) add_prompt(exec, kept.qkv, a);
  if (prompt.tokens && prompt.repeats_bias)
    add_rows(exec, out.parts()[0].bias->value.f32(), 0, 1, a.f32(), a.cols(), a.rows(), a.cols());
  pass.observe("attention_out", a);
  const Tensor sum = after_attention_norm ? pass.keep(x.cols()) : kept.r;
  add_dropout(exec, x, a, dropout_of(pass.s, residual_dropout, pass.rng, kAttentionResidualStream), sum);
  if (!after_attention_norm) return;
  kept.r_raw = sum;
  after_attention_norm.forward(exec, sum, kept.r);
}

/// y = the block's result from kept.h and kept.r.
void Block::mlp_part(const Pass& pass, Tensor y, BlockSaved& kept) const {
  Exec& exec = pass.exec;
  ArenaScope scope(exec.scratch);
  const int64_t C = kept.r.cols();
  const Tensor activated_h = pass.scratch(activated());
  activate(exec, activation, gated, kept.h, activated_h);
  pass.observe("mlp_activation", activated_h);
  Tensor m = y;
  if (mlp_out_norm || !m) m = kept.mlp_raw = pass.keep(C);
  down.forward(exec, activated_h, m, pass.mode);
  if (mlp_out_norm) {
    m = y ? y : pass.scratch(C);
    mlp_out_norm.forward(exec, kept.mlp_raw, m);
  }
  pass.observe("mlp_out", m);
  const Tensor sum = after_mlp_norm ? kept.y_raw = pass.keep(C) : y;
  if (!sum) return;
  finish(pass, m, sum, kept.r);
  if (after_mlp_norm && y) after_mlp_norm.forward(exec, sum, y);
  if (y) pass.observe("block", y);
}

/// sum = r + the feed-forward part's result m.
void Block::finish(const Pass& pass, Tensor m, Tensor sum, Tensor r) const {
  add_dropout(pass.exec, r, m, dropout_of(pass.s, residual_dropout, pass.rng, kMlpResidualStream), sum);
}

void Block::forward(Exec& exec, const Sequences& s, const Rng& rng, Tensor x, Tensor y,
                    BlockSaved* saved) const {
  ArenaScope scope(exec.scratch);
  const Pass pass{exec, s, rng, saved ? exec.saved : exec.scratch, {s.decoding, s.training}};
  BlockSaved kept;
  kept.x = x;
  kept.qkv = pass.keep(qkv.out());
  kept.attention = pass.keep(out.in());
  if (saved) kept.lse = exec.saved.take({s.rows() * heads});
  kept.r = pass.keep(x.cols());
  if (!experts) kept.h = pass.keep(up.out());
  {
    ArenaScope inner(exec.scratch);
    const Tensor n = pass.scratch(x.cols());
    attention_part(pass, x, n, kept);
    Tensor n2 = shared_norm ? (attention_norm ? n : x) : mlp_source(kept);
    if (mlp_norm) {
      mlp_norm.forward(exec, n2, n);
      n2 = n;
      pass.observe("mlp_norm", n2);
    }
    if (experts) {
      experts.forward(exec, pass.kept, n2, y, kept.experts, pass.mode);
    } else {
      up.forward(exec, n2, kept.h, pass.mode);
      pass.observe("mlp_up", kept.h);
    }
  }
  if (experts) {
    if (y) finish(pass, y, y, kept.r);
  } else if (y || mlp_out_norm || after_mlp_norm)
    mlp_part(pass, y, kept);
  if (saved) *saved = kept;
}

/// dn = the gradient with respect to n, what the feed-forward part reads, from d, that with respect to its
/// result.
void Block::mlp_backward(Exec& exec, const Sequences& s, const Rng& rng, const BlockSaved& saved, Tensor n,
                         Tensor d, Tensor dn) {
  ArenaScope scope(exec.scratch);
  const int64_t N = s.rows(), C = d.cols();
  Tensor dm = d;
  if (const Dropout dropout = dropout_of(s, residual_dropout, rng, kMlpResidualStream)) {
    dm = exec.scratch.take({N, C});
    apply_dropout(exec, d, dropout, dm);
  }
  if (experts) return experts.backward(exec, n, saved.experts, dm, dn);
  const Tensor dh = exec.scratch.take({N, up.out()});
  {
    ArenaScope inner(exec.scratch);
    const Tensor da = exec.scratch.take({N, activated()});
    Tensor a(nullptr, da.shape);
    if (down.reads_input()) {
      a = exec.scratch.take(da.shape);
      activate(exec, activation, gated, saved.h, a);
    }
    if (mlp_out_norm) dm = through(exec, mlp_out_norm, saved.mlp_raw, dm);
    down.backward(exec, a, dm, da);
    activate_backward(exec, activation, gated, saved.h, da, dh);
  }
  up.backward(exec, n, dh, dn);
}

void Block::heads_backward(Exec& exec, const BlockSaved& saved, Tensor dqkv) {
  const auto back = [&](Norm& norm, Tensor raw, float* column) {
    ArenaScope scope(exec.scratch);
    const Tensor dy = exec.scratch.take(raw.shape);
    copy_rows(exec, column, dqkv.cols(), dy.f32(), raw.cols(), raw.rows(), raw.cols());
    const Tensor dx = through(exec, norm, per_norm(norm, raw), per_norm(norm, dy));
    copy_rows(exec, dx.f32(), raw.cols(), column, dqkv.cols(), raw.rows(), raw.cols());
  };
  back(q_norm, saved.q_raw, dqkv.f32());
  back(k_norm, saved.k_raw, dqkv.f32() + heads * head_dim);
}

/// dn = the gradient with respect to n, what the attention reads, from d, that with respect to its result.
void Block::attention_backward_to_input(Exec& exec, const Sequences& s, const Rng& rng,
                                        const BlockSaved& saved, Tensor n, Tensor d, Tensor dn) {
  ArenaScope scope(exec.scratch);
  const int64_t N = s.rows(), C = d.cols();
  const Tensor dqkv = exec.scratch.take({N, qkv.out()});
  {
    ArenaScope inner(exec.scratch);
    const Tensor da = exec.scratch.take({N, out.in()});
    Tensor dout = d;
    if (const Dropout dropout = dropout_of(s, residual_dropout, rng, kAttentionResidualStream)) {
      dout = exec.scratch.take({N, C});
      apply_dropout(exec, d, dropout, dout);
    }
    if (attention_out_norm) dout = through(exec, attention_out_norm, saved.attention_raw, dout);
    out.backward(exec, prompt.tokens && !prompt.behind_out ? saved.mixed : saved.attention, dout, da);
    float* const dq = dqkv.f32();
    float* const dk = dq + heads * head_dim;
    const bool prefix_trains = prefix.per_query && prefix.values->grad;
    attention_backward(exec, attention_input(s, rng, saved.qkv), saved.attention.f32(), saved.lse.f32(),
                       da.f32(), dq, dk, dk + kv_heads * head_dim,
                       prefix_trains ? prefix.values->grad.f32() + prefix.column : nullptr);
    if (prompt.tokens) prompt_backward(exec, saved.qkv, prompt.behind_out ? dout : da, dqkv);
  }
  if (prefix.in_rows()) prefix_backward(exec, s, dqkv);
  if (const Tensor table = s.rope[local_rope]) {
    rope(exec, table, dqkv.f32(), N, dqkv.cols(), heads + kv_heads, head_dim, true);
  }
  if (q_norm) heads_backward(exec, saved, dqkv);
  qkv.backward(exec, n, dqkv, dn);
}

bool Block::attention_trains() const {
  return qkv.trains() || out.trains() || attention_norm.trains() || attention_out_norm.trains() ||
         after_attention_norm.trains() || q_norm.trains() || k_norm.trains() ||
         (prefix.values && prefix.values->grad) ||
         (prompt.tokens && (prompt.tokens->grad || prompt.gate->grad));
}

bool Block::mlp_trains() const {
  return mlp_norm.trains() || mlp_out_norm.trains() || after_mlp_norm.trains() || up.trains() ||
         down.trains() || experts.trains();
}

void Block::backward(Exec& exec, const Sequences& s, const Rng& rng, const BlockSaved& saved, Tensor d,
                     bool to_input) {
  ArenaScope scope(exec.scratch);
  const Shape shape = d.shape;
  const auto replace = [&](Norm& norm, Tensor input) {
    ArenaScope inner(exec.scratch);
    const Tensor dx = through(exec, norm, input, d);
    copy_rows(exec, dx.f32(), d.cols(), d.f32(), d.cols(), d.rows(), d.cols());
  };
  const auto normed = [&](const Norm& norm, Tensor x) {
    if (!norm) return x;
    const Tensor n = exec.scratch.take(shape);
    norm.forward(exec, x, n);
    return n;
  };
  const bool attention_needed = to_input || attention_trains();
  if (after_mlp_norm) replace(after_mlp_norm, saved.y_raw);
  // Where both parts read x, the feed-forward part's share waits until the attention has read d.
  Tensor waiting;
  if (parallel) waiting = exec.scratch.take(shape);
  {
    ArenaScope inner(exec.scratch);
    const bool needed =
        to_input || mlp_norm.trains() || experts || (parallel ? shared_norm : attention_needed);
    const Tensor dn = !needed ? Tensor() : parallel ? waiting : exec.scratch.take(shape);
    const bool read = experts || up.reads_input();
    const Tensor n = !read         ? Tensor(nullptr, shape)
                     : shared_norm ? normed(attention_norm, saved.x)
                                   : normed(mlp_norm, mlp_source(saved));
    mlp_backward(exec, s, rng, saved, n, d, dn);
    if (!parallel && needed) add_through(exec, mlp_norm, saved.r, dn, d);
    if (!needed) waiting = {};
  }
  if (!attention_needed) return;
  if (after_attention_norm) replace(after_attention_norm, saved.r_raw);
  const bool needed = to_input || attention_norm.trains();
  const Tensor dn = needed ? exec.scratch.take(shape) : Tensor();
  const Tensor n = qkv.reads_input() ? normed(attention_norm, saved.x) : Tensor(nullptr, shape);
  attention_backward_to_input(exec, s, rng, saved, n, d, dn);
  if (parallel && !shared_norm && waiting) add_through(exec, mlp_norm, saved.x, waiting, d);
  if (!needed) return;
  if (parallel && shared_norm) add_dropout(exec, dn, waiting, Dropout(), dn);
  add_through(exec, attention_norm, saved.x, dn, d);
}

}  // namespace llmtool
