#include "llmtool/infer/prompt_memory.h"

#include <algorithm>

#include "text/common_prefix.h"

namespace llmtool {

int64_t text_context(const Transformer& model, int64_t limit) {
  const int64_t own = model.config().context(),
                virtual_count = static_cast<int64_t>(model.virtual_ids().size());
  return (limit > 0 ? std::min(own, limit) : own) - virtual_count;
}

std::pair<const KvCache*, int64_t> PromptMemory::longest_beginning(
    std::span<const TokenId> ids, std::span<const ReadText* const> in_use) const {
  std::pair<const KvCache*, int64_t> best = {nullptr, kWorthCopying - 1};
  const auto n = static_cast<int64_t>(ids.size());
  if (!model_.shares_prefixes(virtual_count() + n)) return {nullptr, 0};
  const auto consider = [&](const ReadText& text) {
    if (!text.cache || text.cache->type() != type_) return;
    // The last id is read in any case: its logits are wanted.
    const int64_t common = std::min(static_cast<int64_t>(common_prefix(text.ids, ids)), n - 1);
    const KvCache& cache = *text.cache;
    if (common <= best.second || !model_.shares_prefixes(cache.length)) return;
    if (cache.can_cut(virtual_count() + common)) best = {&cache, common};
  };
  consider(kept_);
  consider(for_good_);
  for (const ReadText* text : in_use) consider(*text);
  return best.first ? best : std::pair<const KvCache*, int64_t>{nullptr, 0};
}

std::shared_ptr<KvCache> PromptMemory::begin(Exec& exec, int64_t positions) const {
  auto cache = std::make_shared<KvCache>(model_.config(), virtual_count() + positions, type_, whole_);
  model_.forward(exec, virtual_ids_, *cache, {});
  return cache;
}

PromptMemory::Reading PromptMemory::read(Exec& exec, std::span<const TokenId> ids, int64_t more,
                                         std::span<float> logits, std::span<const ReadText* const> in_use,
                                         const std::function<bool()>& stop_wanted) const {
  const auto n = static_cast<int64_t>(ids.size());
  const int64_t positions = std::min(context(), n + more);
  const auto [source, copied] = longest_beginning(ids, in_use);
  Reading r;
  r.copied = copied;
  if (source) {
    r.cache = std::make_shared<KvCache>(model_.config(), virtual_count() + positions, type_, whole_);
    r.cache->copy_from(*source, virtual_count() + copied);
  } else {
    r.cache = begin(exec, positions);
  }
  std::span<const TokenId> rest = ids.subspan(static_cast<size_t>(copied));
  // Where rotations depend on the text's length it is read as a whole.
  const bool in_pieces = stop_wanted && model_.shares_prefixes(virtual_count() + n);
  constexpr size_t kPiece = KvCache::kPiece;
  for (; in_pieces && rest.size() > kPiece; rest = rest.subspan(kPiece)) {
    if (stop_wanted()) return {};
    model_.forward(exec, rest.first(kPiece), *r.cache, {});
  }
  model_.forward(exec, rest, *r.cache, Tensor(logits.data(), {1, static_cast<int64_t>(logits.size())}));
  return r;
}

}  // namespace llmtool
