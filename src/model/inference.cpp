// Transformer: generation with a cache.

#include <cstring>

#include "llmtool/core/error.h"
#include "model/transformer_impl.h"

namespace llmtool {

namespace {
/// The positions before each row's first: a cache that stands in several rows grows from row to row.
std::vector<int64_t> pasts_of(std::span<KvCache* const> caches) {
  std::vector<int64_t> pasts;
  for (size_t b = 0; b < caches.size(); ++b) {
    const bool again = b > 0 && caches[b] == caches[b - 1];
    pasts.push_back(again ? pasts.back() + 1 : caches[b]->length);
  }
  return pasts;
}
}  // namespace

void Transformer::Impl::outgrow(Exec& exec, KvCache& cache, int64_t more) const {
  const RopeSettings& rope = config.rope_scaling;
  if (rope.scaling != RopeScaling::longrope) return;
  const auto trained = static_cast<int64_t>(rope.original_positions);
  if (cache.length == 0 || cache.length > trained || cache.length + more <= trained) return;
  const std::vector<int32_t> ids(cache.ids.begin(), cache.ids.begin() + cache.length);
  if (!exec.dry()) cache.cut(0);  // a dry run counts the memory alone
  read(exec, ids, cache, trained + 1, {});
}

void Transformer::Impl::read(Exec& exec, std::span<const int32_t> ids, KvCache& cache, int64_t length,
                             Tensor hidden) const {
  // A long prompt goes through in pieces, so that its memory does not grow with its length.
  const auto T = static_cast<int64_t>(ids.size()), wanted = hidden ? hidden.rows() : 0;
  KvCache* const caches[] = {&cache};
  for (int64_t first = 0; first < T; first += KvCache::kPiece) {
    const int64_t n = std::min(KvCache::kPiece, T - first), kept_from = std::max(first, T - wanted);
    const int64_t kept = std::max<int64_t>(0, first + n - kept_from);
    const Tensor last =
        kept == 0 ? Tensor()
                  : Tensor(hidden.f32() + (kept_from - (T - wanted)) * hidden.cols(), {kept, hidden.cols()});
    run_layers(exec, ids.subspan(static_cast<size_t>(first), static_cast<size_t>(n)), n, caches, {&length, 1},
               false, last);
  }
}

void Transformer::Impl::run_layers(Exec& exec, std::span<const int32_t> ids, int64_t T,
                                   std::span<KvCache* const> caches, std::span<const int64_t> lengths,
                                   bool decoding, Tensor last) const {
  ArenaScope scope(exec.scratch);
  const auto B = static_cast<int64_t>(caches.size());
  const std::vector<int64_t> pasts = pasts_of(caches);
  const Tensor positions_of = exec.scratch.take({B * T}, DType::i32);
  auto* const position = static_cast<int32_t*>(positions_of.data);
  for (int64_t i = 0; !exec.dry() && i < B * T; ++i) {
    position[i] = static_cast<int32_t>(pasts[static_cast<size_t>(i / T)] + i % T);
  }
  std::vector<KvRows> rows(caches.size());
  std::vector<int64_t> starts;
  for (int64_t b = 0; b <= B; ++b) starts.push_back(b * T);
  Sequences s{starts, position};
  s.past = rows;
  s.decoding = decoding;
  place(exec, s, lengths);
  const Tensor x = through_layers(exec, s, {ids, {}}, [&](int64_t layer) {
    for (size_t b = 0; b < rows.size(); ++b) {
      rows[b] = caches[b]->rows(layer);
      rows[b].past = pasts[b];
    }
  });
  if (exec.dry()) return;
  for (size_t b = 0; b < caches.size(); ++b) {
    caches[b]->grow(T);
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
  if (wanted > 0) impl_->logits_of(exec, hidden, logits, false);
}

void Transformer::decode(Exec& exec, std::span<const int32_t> ids, std::span<KvCache* const> caches,
                         Tensor logits) const {
  impl_->require_generation();
  const auto B = static_cast<int64_t>(ids.size());
  std::vector<int64_t> lengths = pasts_of(caches);
  for (size_t b = 0; b < caches.size(); ++b) {
    const int64_t context = std::min(caches[b]->capacity(), impl_->config.context());
    if (exec.dry()) {
      lengths[b] = context;
    } else if (const int64_t room = this->room(*caches[b]); lengths[b]++ - caches[b]->length >= room) {
      throw Error(cat("[model] expected at most ", room, " tokens more behind ", caches[b]->length,
                      " positions of a context of ", context));
    }
  }
  if (!exec.dry())
    impl_->check_ids(ids, static_cast<int32_t>(-impl_->virtual_tokens.count), impl_->config.vocab_size,
                     "token");
  ArenaScope scope(exec.scratch);
  for (KvCache* cache : caches) impl_->outgrow(exec, *cache, 1);
  const Tensor hidden = exec.scratch.take({B, impl_->config.hidden_size});
  impl_->run_layers(exec, ids, 1, caches, lengths, true, hidden);
  impl_->logits_of(exec, hidden, logits, true);
}

int64_t Transformer::room(const KvCache& cache) const {
  const RopeSettings& rope = impl_->config.rope_scaling;
  const int64_t room = std::min(cache.capacity(), impl_->config.context()) - cache.length;
  const auto trained = static_cast<int64_t>(rope.original_positions);
  const bool inside = rope.scaling == RopeScaling::longrope && cache.length < trained;
  return inside ? std::min(room, trained - cache.length) : room;
}

bool Transformer::shares_prefixes(int64_t length) const {
  const RopeSettings& rope = impl_->config.rope_scaling;
  const bool by_length = rope.scaling == RopeScaling::dynamic || rope.scaling == RopeScaling::longrope;
  return !by_length || static_cast<double>(length) <= rope.original_positions;
}

}  // namespace llmtool
