#include "llmtool/infer/draft.h"

#include <algorithm>
#include <limits>

#include "llmtool/core/error.h"
#include "llmtool/infer/prompt_memory.h"
#include "text/common_prefix.h"

namespace llmtool {

std::vector<TokenId> look_up(std::span<const TokenId> text, int64_t most) {
  constexpr size_t kLongest = 4, kShortest = 2;
  std::vector<TokenId> found;
  const size_t n = text.size();
  for (size_t length = std::min(kLongest, n > 0 ? n - 1 : 0); length >= kShortest; --length) {
    const auto end = text.last(length);
    for (size_t at = n - length; at-- > 0;) {
      if (!std::equal(end.begin(), end.end(), text.begin() + static_cast<std::ptrdiff_t>(at))) continue;
      for (size_t i = at + length; static_cast<int64_t>(found.size()) < most; ++i)
        found.push_back(i < n ? text[i] : found[i - n]);
      return found;
    }
  }
  return found;
}

void check_same_vocabulary(const Tokenizer& tokenizer, const Tokenizer& other) {
  const int64_t n = tokenizer.vocab_size();
  if (n != other.vocab_size()) {
    throw UsageError(cat("the draft model's tokenizer: expected ", n, " pieces as the model's, found ",
                         other.vocab_size()));
  }
  for (TokenId id = 0; id < n; ++id) {
    if (tokenizer.piece(id) == other.piece(id)) continue;
    throw UsageError(cat("the draft model's tokenizer: piece ", id, ": expected \"", tokenizer.piece(id),
                         "\" as in the model's, found \"", other.piece(id), "\""));
  }
}

bool DraftModel::knows(std::span<const TokenId> ids) const {
  return std::all_of(ids.begin(), ids.end(), [&](TokenId id) { return id < model_.config().vocab_size; });
}

/// Brings the cache to the text but for its last tokens, which are decoded with the others'.
void DraftModel::catch_up(Request& r) {
  constexpr int64_t kLeft = 4;  // tokens that need not be read on their own
  State& s = r.state;
  const auto n = static_cast<int64_t>(r.text.size());
  const int64_t context = model_.config().context();
  if (n + 1 > context) r.most = 0;
  if (r.most <= 0) return;
  if (!s.cache) s.cache = std::make_unique<KvCache>(model_.config(), context);
  int64_t known = std::min(static_cast<int64_t>(common_prefix(s.ids, r.text)), n - 1);
  if (!s.cache->can_cut(known)) known = 0;
  s.cache->cut(known);
  s.ids.assign(r.text.begin(), r.text.begin() + known);
  if (!knows(r.text.subspan(static_cast<size_t>(known)))) {
    r.most = 0;
    return;
  }
  if (n - known <= kLeft && model_.room(*s.cache) >= n - known) return;
  const auto more = r.text.subspan(static_cast<size_t>(known), static_cast<size_t>(n - 1 - known));
  workspace_.run([&](Exec& exec) { model_.forward(exec, more, *s.cache, {}); });
  s.ids.assign(r.text.begin(), r.text.end() - 1);
}

void DraftModel::propose(std::vector<Request>& requests) {
  const int64_t V = model_.config().vocab_size;
  for (Request& r : requests) catch_up(r);
  for (int64_t place = 0;; ++place) {
    std::vector<Request*> writing;
    std::vector<TokenId> ids;
    std::vector<KvCache*> caches;
    std::vector<size_t> last_rows;
    for (Request& r : requests) {
      State& s = r.state;
      if (place >= r.most) continue;
      std::vector<TokenId> next(
          r.text.begin() + static_cast<std::ptrdiff_t>(std::min(s.ids.size(), r.text.size())), r.text.end());
      if (place > 0) next = {r.drafts.back()};
      if (model_.room(*s.cache) < static_cast<int64_t>(next.size()) || !knows(next)) {
        r.most = place;
        continue;
      }
      writing.push_back(&r);
      ids.insert(ids.end(), next.begin(), next.end());
      caches.insert(caches.end(), next.size(), s.cache.get());
      s.ids.insert(s.ids.end(), next.begin(), next.end());
      last_rows.push_back(ids.size() - 1);
    }
    if (writing.empty()) return;
    std::vector<float> logits(ids.size() * static_cast<size_t>(V));
    workspace_.run([&](Exec& exec) {
      model_.decode(exec, ids, caches, Tensor(logits.data(), {static_cast<int64_t>(ids.size()), V}));
    });
    for (size_t i = 0; i < writing.size(); ++i) {
      const auto own = logits.begin() + static_cast<std::ptrdiff_t>(last_rows[i]) * V;
      std::vector<float> row(own, own + std::min(V, vocabulary_));
      row.resize(static_cast<size_t>(vocabulary_), -std::numeric_limits<float>::infinity());
      writing[i]->drafts.push_back(writing[i]->choose(row, place));
    }
  }
}

}  // namespace llmtool
