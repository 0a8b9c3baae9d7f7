// Transformer: loss and gradients.

#include "llmtool/core/error.h"
#include "llmtool/kernels/elementwise.h"
#include "llmtool/kernels/optimizer.h"
#include "model/transformer_impl.h"

namespace llmtool {

namespace {
constexpr uint64_t kEmbeddingStream = ~uint64_t{0};

void check_targets(const Batch& batch, size_t targets, bool of_sequences) {
  const size_t expected = of_sequences ? batch.lengths.size() : batch.ids.size();
  if (targets != expected) throw Error(cat("[model] expected ", expected, " targets, found ", targets));
}
}  // namespace

LossSums Transformer::train_step(Exec& exec, const Batch& batch, std::span<const int32_t> targets,
                                 const LossOptions& options, bool checkpointing) {
  Impl& m = *impl_;
  const std::vector<int64_t> starts = m.starts_of(exec, batch);
  const bool classifies = m.config.head == HeadKind::classification;
  m.require_loss();
  check_targets(batch, targets.size(), classifies);
  const auto summaries = classifies ? m.summary_rows(batch, starts) : std::vector<int64_t>();
  const int64_t N = starts.back(), C = m.config.hidden_size;
  if (!exec.dry()) m.check_ids(targets, -1, m.outputs(), "target");
  ArenaScope saved_scope(exec.saved), scratch_scope(exec.scratch);
  m.refresh_adapters(exec);
  Sequences s{starts, m.count_positions(exec, starts)};
  s.training = true;
  m.place(exec, s, batch.lengths);
  const Dropout embedding_dropout{m.config.embedding_dropout, exec.rng.split(kEmbeddingStream)};
  std::vector<BlockSaved> saved(m.blocks.size());
  Tensor x = exec.saved.take({N, C});
  const Tensor embedded = m.embedding_norm ? exec.saved.take({N, C}) : x;
  m.embed_tokens(exec, s, batch, embedded, x, options.neftune_noise_alpha);
  if (embedding_dropout) apply_dropout(exec, x, embedding_dropout, x);
  // Backward ends at the lowest layer that trains: those below keep nothing.
  const int64_t layers = static_cast<int64_t>(m.blocks.size()), lowest = m.lowest_trained();
  Tensor spare = lowest > 1 ? exec.saved.take({N, C}) : Tensor();
  for (int64_t layer = 0; layer < layers; ++layer) {
    const auto at = static_cast<size_t>(layer);
    const bool passing = layer + 1 < lowest;
    const Tensor y = passing ? spare : exec.saved.take({N, C});
    if (passing) spare = x;
    saved[at].x = x;
    const Observer observe_layer = m.layer_observer(layer);
    s.observer = &observe_layer;
    m.blocks[at].forward(exec, s, exec.rng.split(at), x, y,
                         checkpointing || layer < lowest ? nullptr : &saved[at]);
    x = y;
  }
  s.observer = nullptr;
  const Tensor d = exec.scratch.take({N, C});
  const LossSums sums = m.head_loss(exec, s, summaries, x, targets, options, d);
  for (int64_t layer = layers - 1; layer >= std::max<int64_t>(lowest, 0); --layer) {
    const auto at = static_cast<size_t>(layer);
    ArenaScope layer_scope(exec.saved);
    const Rng rng = exec.rng.split(at);
    if (checkpointing) m.blocks[at].forward(exec, s, rng, saved[at].x, {}, &saved[at]);
    m.blocks[at].backward(exec, s, rng, saved[at], d, layer > lowest);
  }
  if (lowest >= 0) return sums;
  if (embedding_dropout) apply_dropout(exec, d, embedding_dropout, d);
  Tensor dembedded = d;
  if (m.embedding_norm) {
    dembedded = exec.scratch.take({N, C});
    fill_zero(exec, dembedded);
    m.embedding_norm.backward(exec, embedded, d, dembedded);
  }
  m.embed_tokens_backward(exec, s, batch, dembedded);
  return sums;
}

LossSums Transformer::evaluate(Exec& exec, const Batch& batch, std::span<const int32_t> targets) {
  Impl& m = *impl_;
  const std::vector<int64_t> starts = m.starts_of(exec, batch);
  const bool classifies = m.config.head == HeadKind::classification;
  m.require_loss();
  check_targets(batch, targets.size(), classifies);
  const auto summaries = classifies ? m.summary_rows(batch, starts) : std::vector<int64_t>();
  if (!exec.dry()) m.check_ids(targets, -1, m.outputs(), "target");
  ArenaScope scope(exec.scratch);
  m.refresh_adapters(exec);
  const Tensor hidden = m.last_layer(exec, batch, starts);
  return m.head_loss(exec, {starts, nullptr}, summaries, hidden, targets, {}, {});
}

}  // namespace llmtool
