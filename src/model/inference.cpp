// Transformer: generation with a cache.

#include <cstring>

#include "llmtool/core/error.h"
#include "model/transformer_impl.h"

namespace llmtool {

KvCache::KvCache(const ModelConfig& config, int64_t capacity)
    : capacity_(capacity),
      width_(config.kv_heads() * config.head_dim),
      block_(static_cast<size_t>(2 * config.num_hidden_layers * capacity_ * width_) * sizeof(float)) {}

Tensor KvCache::keys(int64_t layer) const {
  return {reinterpret_cast<float*>(block_.data()) + 2 * layer * capacity_ * width_, {capacity_, width_}};
}

Tensor KvCache::values(int64_t layer) const {
  return {reinterpret_cast<float*>(block_.data()) + (2 * layer + 1) * capacity_ * width_,
          {capacity_, width_}};
}

void KvCache::copy_from(const KvCache& other) {
  if (other.width_ != width_ || other.length > capacity_) {
    throw Error(cat("[kv cache] expected at most ", capacity_, " rows of ", width_, " floats, found ",
                    other.length, " of ", other.width_));
  }
  const int64_t row_bytes = 2 * width_ * capacity_ * static_cast<int64_t>(sizeof(float));
  const int64_t layers = row_bytes ? static_cast<int64_t>(block_.size()) / row_bytes : 0;
  for (int64_t layer = 0; layer < layers; ++layer) {
    const size_t bytes = static_cast<size_t>(other.length * width_) * sizeof(float);
    std::memcpy(keys(layer).data, other.keys(layer).data, bytes);
    std::memcpy(values(layer).data, other.values(layer).data, bytes);
  }
  length = other.length;
  ids = other.ids;
}

void Transformer::Impl::outgrow(Exec& exec, KvCache& cache, int64_t more) const {
  const RopeSettings& rope = config.rope_scaling;
  if (rope.scaling != RopeScaling::longrope || exec.dry()) return;
  const auto trained = static_cast<int64_t>(rope.original_positions);
  if (cache.length == 0 || cache.length > trained || cache.length + more <= trained) return;
  const std::vector<int32_t> ids(cache.ids.begin(), cache.ids.begin() + cache.length);
  cache.length = 0;
  read(exec, ids, cache, trained + 1, {});
}

void Transformer::Impl::read(Exec& exec, std::span<const int32_t> ids, KvCache& cache, int64_t length,
                             Tensor hidden) const {
  // A long prompt goes through in pieces, so that its memory does not grow with its length.
  constexpr int64_t kPiece = 512;
  const auto T = static_cast<int64_t>(ids.size()), wanted = hidden ? hidden.rows() : 0;
  KvCache* const caches[] = {&cache};
  for (int64_t first = 0; first < T; first += kPiece) {
    const int64_t n = std::min(kPiece, T - first), kept_from = std::max(first, T - wanted);
    const int64_t kept = std::max<int64_t>(0, first + n - kept_from);
    const Tensor last =
        kept == 0 ? Tensor()
                  : Tensor(hidden.f32() + (kept_from - (T - wanted)) * hidden.cols(), {kept, hidden.cols()});
    run_layers(exec, ids.subspan(static_cast<size_t>(first), static_cast<size_t>(n)), 1, n, caches,
               {&length, 1}, last);
  }
}

void Transformer::Impl::run_layers(Exec& exec, std::span<const int32_t> ids, int64_t B, int64_t T,
                                   std::span<KvCache* const> caches, std::span<const int64_t> lengths,
                                   Tensor last) const {
  ArenaScope scope(exec.scratch);
  const Tensor positions_of = exec.scratch.take({B * T}, DType::i32);
  auto* const position = static_cast<int32_t*>(positions_of.data);
  for (int64_t i = 0; !exec.dry() && i < B * T; ++i) {
    position[i] = static_cast<int32_t>(caches[i / T]->length + i % T);
  }
  std::vector<KvRows> rows(caches.size());
  std::vector<int64_t> starts;
  for (int64_t b = 0; b <= B; ++b) starts.push_back(b * T);
  Sequences s{starts, position};
  s.past = rows;
  place(exec, s, lengths);
  const Tensor x = through_layers(exec, s, {ids, {}}, [&](int64_t layer) {
    for (size_t b = 0; b < rows.size(); ++b)
      rows[b] = {caches[b]->keys(layer).f32(), caches[b]->values(layer).f32(), caches[b]->length};
  });
  if (exec.dry()) return;
  for (size_t b = 0; b < caches.size(); ++b) {
    caches[b]->length += T;
    if (config.rope_scaling.scaling != RopeScaling::longrope) continue;
    caches[b]->ids.resize(static_cast<size_t>(caches[b]->length - T));  // it may have been cut back
    const auto own = ids.subspan(b * static_cast<size_t>(T), static_cast<size_t>(T));
    caches[b]->ids.insert(caches[b]->ids.end(), own.begin(), own.end());
  }
  if (last) {
    const size_t floats = static_cast<size_t>(last.size());
    std::memcpy(last.f32(), x.f32() + x.size() - last.size(), floats * sizeof(float));
  }
}

void Transformer::forward(Exec& exec, std::span<const int32_t> ids, KvCache& cache, Tensor logits) const {
  impl_->require_generation();
  const auto T = static_cast<int64_t>(ids.size()), wanted = logits ? logits.shape[0] : 0;
  const int64_t context = std::min(cache.capacity(), impl_->config.context());
  if (cache.length + T > context) {
    throw Error(cat("[model] expected at most ", context, " positions, found ", cache.length,
                    " in the cache and ", T, " to come"));
  }
  if (wanted > T) throw Error(cat("[model] expected logits of at most ", T, " positions, found ", wanted));
  if (!exec.dry())
    impl_->check_ids(ids, static_cast<int32_t>(-impl_->virtual_tokens.count), impl_->config.vocab_size,
                     "token");
  ArenaScope scope(exec.scratch);
  const Tensor hidden = exec.scratch.take({wanted, impl_->config.hidden_size});
  impl_->outgrow(exec, cache, T);
  const int64_t length = exec.dry() ? context : cache.length + T;  // a dry run's cache does not grow
  impl_->read(exec, ids, cache, length, hidden);
  if (wanted > 0) impl_->logits_of(exec, hidden, logits, T == 1);
}

void Transformer::decode(Exec& exec, std::span<const int32_t> ids, std::span<KvCache* const> caches,
                         Tensor logits) const {
  impl_->require_generation();
  const auto B = static_cast<int64_t>(ids.size());
  std::vector<int64_t> lengths;
  for (const KvCache* cache : caches) {
    const int64_t context = std::min(cache->capacity(), impl_->config.context());
    lengths.push_back(exec.dry() ? context : cache->length + 1);
    if (cache->length >= context) throw Error(cat("[model] the context of ", context, " positions is full"));
  }
  if (!exec.dry())
    impl_->check_ids(ids, static_cast<int32_t>(-impl_->virtual_tokens.count), impl_->config.vocab_size,
                     "token");
  ArenaScope scope(exec.scratch);
  for (KvCache* cache : caches) impl_->outgrow(exec, *cache, 1);
  const Tensor hidden = exec.scratch.take({B, impl_->config.hidden_size});
  impl_->run_layers(exec, ids, B, 1, caches, lengths, hidden);
  impl_->logits_of(exec, hidden, logits, true);
}

}  // namespace llmtool
