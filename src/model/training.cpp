// Transformer: loss and gradients.

#include "llmtool/core/error.h"
#include "llmtool/kernels/cross_entropy.h"
#include "llmtool/kernels/elementwise.h"
#include "llmtool/kernels/optimizer.h"
#include "model/transformer_impl.h"

namespace llmtool {

namespace {
constexpr uint64_t kEmbeddingStream = ~uint64_t{0};

/// Rows whose logits exist at a time: enough for the matrix product to be fast, few enough to stay small.
int64_t logit_rows(int64_t V) { return std::clamp<int64_t>((int64_t{4} << 20) / V, 256, 1024); }

/// Positions 0..T-1 for each of B sequences.
int32_t* count_positions(Exec& exec, int64_t B, int64_t T) {
  auto* const position = static_cast<int32_t*>(exec.scratch.take({B * T}, DType::i32).data);
  for (int64_t i = 0; !exec.dry() && i < B * T; ++i) position[i] = static_cast<int32_t>(i % T);
  return position;
}

int64_t sequence_length(const ModelConfig& config, size_t inputs, size_t targets, int64_t batch) {
  const auto tokens = static_cast<int64_t>(inputs);
  if (batch < 1 || tokens % batch != 0 || tokens == 0 || targets != inputs) {
    throw Error(cat("[model] expected ", batch, " sequences of inputs and targets, found ", inputs, " and ",
                    targets, " ids"));
  }
  const int64_t T = tokens / batch;
  if (T > config.context()) {
    throw Error(cat("[model] expected at most ", config.context(), " positions, found ", T));
  }
  return T;
}
}  // namespace

/// hidden (N, C): the last block's output. Where `dhidden` (N, C) is given it receives the gradient, and the
/// parameters theirs.
LossSums Transformer::Impl::head_loss(Exec& exec, Tensor hidden, std::span<const int32_t> targets,
                                      const LossOptions& options, Tensor dhidden) {
  ArenaScope scope(exec.scratch);
  const int64_t N = hidden.rows(), C = config.hidden_size, V = config.vocab_size;
  const int64_t chunk = std::min(N, logit_rows(V));
  const Tensor normed = exec.scratch.take({N, C}), logits_block = exec.scratch.take({chunk, V});
  const auto cap = static_cast<float>(config.final_logit_softcapping);
  const Tensor capped = cap > 0 && dhidden ? exec.scratch.take({chunk, V}) : Tensor();
  const Tensor losses_block = exec.scratch.take({2 * N});
  auto* const losses = static_cast<double*>(losses_block.data);
  final_norm.forward(exec, hidden, normed);
  report("final_norm", -1, normed);
  for (int64_t first = 0; first < N; first += chunk) {
    const int64_t rows = std::min(chunk, N - first);
    const Tensor logits(logits_block.f32(), {rows, V});
    float* const n = normed.f32() + first * C;
    matmul(exec, rows, V, C, n, WeightView(head->value), logits.f32(), V);
    if (cap > 0) {
      softcap(exec, logits, cap);
      if (dhidden) copy_rows(exec, logits.f32(), V, capped.f32(), V, rows, V);
    }
    cross_entropy(exec, logits, targets.data() + first, options.z_loss, options.scale,
                  static_cast<bool>(dhidden), losses + first);
    if (cap > 0 && dhidden) softcap_backward(exec, {capped.f32(), {rows, V}}, cap, logits);
    if (!dhidden) continue;
    const MatrixView dlogits{logits.f32(), V, 1};
    if (head->grad)
      matmul(exec, V, C, rows, dlogits.transposed(), {n, C, 1}, head->grad.f32(), C, Write::add);
    matmul(exec, rows, C, V, dlogits, MatrixView{head->value.f32(), C, 1}, n,
           C);  // its input is no longer needed
  }
  if (dhidden) {
    fill_zero(exec, dhidden);
    final_norm.backward(exec, hidden, normed, dhidden);
  }
  LossSums sums;
  for (int64_t i = 0; !exec.dry() && i < N; ++i) {
    sums.loss += losses[i];
    sums.count += targets[i] >= 0;
  }
  return sums;
}

LossSums Transformer::train_step(Exec& exec, std::span<const int32_t> inputs,
                                 std::span<const int32_t> targets, int64_t batch, const LossOptions& options,
                                 bool checkpointing) {
  Impl& m = *impl_;
  const int64_t B = batch, T = sequence_length(m.config, inputs.size(), targets.size(), batch);
  const int64_t C = m.config.hidden_size;
  if (!exec.dry()) {
    m.check_ids(inputs, 0, "input");
    m.check_ids(targets, -1, "target");
  }
  ArenaScope saved_scope(exec.saved), scratch_scope(exec.scratch);
  Sequences s{B, T, count_positions(exec, B, T)};
  s.training = true;
  m.place(exec, s, T, {&T, 1});
  const Dropout embedding_dropout{m.config.embedding_dropout, exec.rng.split(kEmbeddingStream)};
  std::vector<BlockSaved> saved(m.blocks.size());
  Tensor x = exec.saved.take({B, T, C});
  const Tensor embedded = m.embedding_norm ? exec.saved.take({B, T, C}) : x;
  m.embed_tokens(exec, s, inputs, embedded, x);
  if (embedding_dropout) apply_dropout(exec, x, embedding_dropout, x);
  for (size_t layer = 0; layer < m.blocks.size(); ++layer) {
    const Tensor y = exec.saved.take({B, T, C});
    saved[layer].x = x;
    const Observer observe_layer = m.layer_observer(static_cast<int64_t>(layer));
    s.observer = &observe_layer;
    m.blocks[layer].forward(exec, s, exec.rng.split(layer), x, y, checkpointing ? nullptr : &saved[layer]);
    x = y;
  }
  s.observer = nullptr;
  const Tensor d = exec.scratch.take({B, T, C});
  const LossSums sums = m.head_loss(exec, x, targets, options, d);
  for (size_t layer = m.blocks.size(); layer-- > 0;) {
    ArenaScope layer_scope(exec.saved);
    const Rng rng = exec.rng.split(layer);
    if (checkpointing) m.blocks[layer].forward(exec, s, rng, saved[layer].x, {}, &saved[layer]);
    m.blocks[layer].backward(exec, s, rng, saved[layer], d);
  }
  if (embedding_dropout) apply_dropout(exec, d, embedding_dropout, d);
  Tensor dembedded = d;
  if (m.embedding_norm) {
    dembedded = exec.scratch.take({B, T, C});
    fill_zero(exec, dembedded);
    m.embedding_norm.backward(exec, embedded, d, dembedded);
  }
  if (m.embedding_scale != 1) scale(exec, dembedded, m.embedding_scale);
  embed_backward(exec, dembedded, inputs.data(), s.positions, m.embedding->grad,
                 m.positions ? m.positions->grad : Tensor());
  return sums;
}

LossSums Transformer::evaluate(Exec& exec, std::span<const int32_t> inputs, std::span<const int32_t> targets,
                               int64_t batch) {
  Impl& m = *impl_;
  const int64_t B = batch, T = sequence_length(m.config, inputs.size(), targets.size(), batch);
  if (!exec.dry()) {
    m.check_ids(inputs, 0, "input");
    m.check_ids(targets, -1, "target");
  }
  ArenaScope scope(exec.scratch);
  Sequences s{B, T, count_positions(exec, B, T)};
  m.place(exec, s, T, {&T, 1});
  Tensor x = exec.scratch.take({B, T, m.config.hidden_size}),
         y = exec.scratch.take({B, T, m.config.hidden_size});
  m.embed_tokens(exec, s, inputs, m.embedding_norm ? y : x, x);
  for (size_t layer = 0; layer < m.blocks.size(); ++layer) {
    const Observer observe_layer = m.layer_observer(static_cast<int64_t>(layer));
    s.observer = &observe_layer;
    m.blocks[layer].forward(exec, s, exec.rng, x, y, nullptr);
    std::swap(x, y);
  }
  return m.head_loss(exec, x, targets, {}, {});
}

}  // namespace llmtool
