// Transformer: whole sequences at once.

#include "llmtool/core/error.h"
#include "model/transformer_impl.h"

namespace llmtool {

Batch Batch::of(std::span<const int32_t> ids, int64_t sequences) {
  const auto n = static_cast<int64_t>(ids.size());
  if (sequences < 1 || n == 0 || n % sequences != 0)
    throw Error(cat("[model] expected ", sequences, " sequences of one length, found ", n, " ids"));
  return {ids, std::vector<int64_t>(static_cast<size_t>(sequences), n / sequences)};
}

std::vector<int64_t> Transformer::Impl::starts_of(Exec& exec, const Batch& batch) const {
  std::vector<int64_t> starts = {0};
  for (const int64_t length : batch.lengths) {
    if (length < 1 || length > config.context())
      throw Error(cat("[model] expected at most ", config.context(), " positions, found ", length));
    starts.push_back(starts.back() + length);
  }
  if (batch.lengths.empty() || starts.back() != static_cast<int64_t>(batch.ids.size()))
    throw Error(cat("[model] expected ", starts.back(), " ids, found ", batch.ids.size()));
  if (!batch.token_types.empty() && batch.token_types.size() != batch.ids.size())
    throw Error(cat("[model] expected ", batch.ids.size(), " token types, found ", batch.token_types.size()));
  if (!exec.dry()) {
    check_ids(batch.ids, static_cast<int32_t>(-virtual_tokens.count), config.vocab_size, "input");
    check_ids(batch.token_types, 0, config.type_vocab_size, "token type");
  }
  return starts;
}

int32_t* Transformer::Impl::count_positions(Exec& exec, std::span<const int64_t> starts) const {
  auto* const position = static_cast<int32_t*>(exec.scratch.take({starts.back()}, DType::i32).data);
  for (size_t b = 0; !exec.dry() && b + 1 < starts.size(); ++b) {
    for (int64_t i = starts[b]; i < starts[b + 1]; ++i) position[i] = static_cast<int32_t>(i - starts[b]);
  }
  return position;
}

Tensor Transformer::Impl::through_layers(Exec& exec, Sequences& s, const Batch& batch,
                                         const std::function<void(int64_t layer)>& prepare) const {
  Tensor x = exec.scratch.take({s.rows(), config.hidden_size}),
         y = exec.scratch.take({s.rows(), config.hidden_size});
  embed_tokens(exec, s, batch, embedding_norm ? y : x, x);
  for (size_t layer = 0; layer < blocks.size(); ++layer) {
    if (prepare) prepare(static_cast<int64_t>(layer));
    const Observer observe_layer = layer_observer(static_cast<int64_t>(layer));
    s.observer = &observe_layer;
    blocks[layer].forward(exec, s, exec.rng, x, y, nullptr);
    std::swap(x, y);
  }
  s.observer = nullptr;
  return x;
}

Tensor Transformer::Impl::last_layer(Exec& exec, const Batch& batch, std::span<const int64_t> starts) const {
  Sequences s{starts, count_positions(exec, starts)};
  place(exec, s, batch.lengths);
  return through_layers(exec, s, batch, {});
}

void Transformer::encode(Exec& exec, const Batch& batch, Tensor hidden) const {
  ArenaScope scope(exec.scratch);
  const Tensor x = impl_->last_layer(exec, batch, impl_->starts_of(exec, batch));
  if (impl_->final_norm) return impl_->final_norm.forward(exec, x, hidden);
  copy_rows(exec, x.f32(), x.cols(), hidden.f32(), x.cols(), x.rows(), x.cols());
}

Tensor Transformer::Impl::behind_prefix(Exec& exec, Tensor hidden, std::vector<int64_t>& starts) const {
  const int64_t P = virtual_tokens.count;
  if (P == 0) return hidden;
  std::vector<int64_t> rows;
  for (size_t b = 0; b + 1 < starts.size(); ++b) {
    for (int64_t row = starts[b] + P; row < starts[b + 1]; ++row) rows.push_back(row);
  }
  for (size_t b = 0; b < starts.size(); ++b) starts[b] -= P * static_cast<int64_t>(b);
  const Tensor kept = exec.scratch.take({static_cast<int64_t>(rows.size()), hidden.cols()});
  gather_rows(exec, hidden, rows, kept);
  return kept;
}

void Transformer::embed_sequences(Exec& exec, const Batch& batch, Pooling pooling, Tensor vectors) const {
  const Impl& m = *impl_;
  if (pooling == Pooling::pooler && !m.pooler)
    throw Error(cat("[model] ", class_of(m.config), " has no pooler"));
  ArenaScope scope(exec.scratch);
  std::vector<int64_t> starts = m.starts_of(exec, batch);
  Tensor hidden = exec.scratch.take({starts.back(), m.config.hidden_size});
  encode(exec, batch, hidden);
  if (!m.virtual_tokens.embeddings) hidden = m.behind_prefix(exec, hidden, starts);
  if (pooling == Pooling::mean) return mean_rows(exec, hidden, starts, vectors);
  std::vector<int64_t> rows;
  for (size_t b = 0; b < batch.lengths.size(); ++b)
    rows.push_back(pooling == Pooling::last ? starts[b + 1] - 1 : starts[b]);
  gather_rows(exec, hidden, rows, vectors);
  if (pooling != Pooling::pooler) return;
  const Tensor raw = exec.scratch.take(vectors.shape);
  m.pooler.forward(exec, vectors, raw, {}, vectors);
}

void Transformer::classify(Exec& exec, const Batch& batch, Tensor logits) const {
  const Impl& m = *impl_;
  if (m.config.head != HeadKind::classification)
    throw Error(cat("[model] ", class_of(m.config), " has no classification head"));
  ArenaScope scope(exec.scratch);
  const std::vector<int64_t> starts = m.starts_of(exec, batch);
  const std::vector<int64_t> rows = m.summary_rows(batch, starts);
  const Tensor hidden = m.last_layer(exec, batch, starts);
  const Tensor picked = exec.scratch.take({static_cast<int64_t>(rows.size()), hidden.cols()});
  gather_rows(exec, hidden, rows, picked);
  m.logits_of(exec, picked, logits, false);
}

void Transformer::token_logits(Exec& exec, const Batch& batch, std::span<const int64_t> rows,
                               Tensor logits) const {
  const Impl& m = *impl_;
  if (m.config.head != HeadKind::language_model)
    throw Error(cat("[model] ", class_of(m.config), " has no language model's head"));
  ArenaScope scope(exec.scratch);
  const Tensor hidden = m.last_layer(exec, batch, m.starts_of(exec, batch));
  for (const int64_t row : rows) {
    if (row < 0 || row >= hidden.rows())
      throw Error(cat("[model] expected a row below ", hidden.rows(), ", found ", row));
  }
  const Tensor picked = exec.scratch.take({static_cast<int64_t>(rows.size()), hidden.cols()});
  gather_rows(exec, hidden, rows, picked);
  m.logits_of(exec, picked, logits, false);
}

}  // namespace llmtool
