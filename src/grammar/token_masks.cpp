#include "llmtool/grammar/token_masks.h"

#include <algorithm>
#include <bit>

#include "grammar/dead_ends.h"
#include "grammar/token_trie.h"

namespace llmtool {

TokenMasks::TokenMasks(const Tokenizer& tokenizer, int64_t vocab_size, std::vector<TokenId> end_ids,
                       size_t max_bytes)
    : end_ids_(std::move(end_ids)), vocab_size_(vocab_size) {
  std::erase_if(end_ids_, [&](TokenId id) { return id < 0 || id >= vocab_size; });
  const auto known = static_cast<size_t>(std::min(vocab_size, tokenizer.vocab_size()));
  std::vector<std::string> anywhere(known), at_start(known);
  for (size_t i = 0; i < known; ++i) {
    const auto id = static_cast<TokenId>(i);
    const bool ends = std::find(end_ids_.begin(), end_ids_.end(), id) != end_ids_.end();
    if (ends || tokenizer.is_special(id)) continue;
    anywhere[i] = tokenizer.surface(id, false);
    at_start[i] = tokenizer.surface(id, true);
  }
  const bool same = anywhere == at_start;
  anywhere_ = std::make_shared<const TokenTrie>(std::move(anywhere));
  at_start_ = same ? anywhere_ : std::make_shared<const TokenTrie>(std::move(at_start));
  if (!anywhere_->spells_every_byte()) dead_ends_ = std::make_unique<DeadEnds>(*anywhere_);
  walk_ = std::make_unique<TrieWalk>();
  const size_t mask_bytes = static_cast<size_t>(vocab_size) / 8 + 256;
  max_masks_ = std::max<size_t>(1, max_bytes / mask_bytes);
}
TokenMasks::~TokenMasks() = default;

const TokenTrie& TokenMasks::trie(bool at_start) const { return at_start ? *at_start_ : *anywhere_; }

std::string_view TokenMasks::text(TokenId id, bool at_start) const {
  const auto& texts = trie(at_start).texts;
  return static_cast<size_t>(id) < texts.size() ? std::string_view(texts[static_cast<size_t>(id)]) : "";
}

std::shared_ptr<const TokenMask> TokenMasks::allowed(const Matcher& matcher, bool at_start) {
  const TokenTrie& tokens = trie(at_start);
  key_.assign(1, static_cast<char>(matcher.complete() + 2 * (&tokens != anywhere_.get())));
  const auto longest = static_cast<int64_t>(tokens.longest);
  matcher.append_key(key_, dead_ends_ ? Matcher::kAnyReach : longest);  // an end may be far away
  if (const auto found = by_key_.find(key_); found != by_key_.end()) {
    ++hits_;
    masks_.splice(masks_.begin(), masks_, found->second);
    return found->second->second;
  }
  ++misses_;
  masks_.emplace_front(key_, make(matcher, tokens));
  by_key_.emplace(masks_.front().first, masks_.begin());
  if (masks_.size() > max_masks_) {
    by_key_.erase(masks_.back().first);
    masks_.pop_back();
  }
  return masks_.front().second;
}

std::shared_ptr<const TokenMask> TokenMasks::make(const Matcher& matcher, const TokenTrie& tokens) {
  auto mask = std::make_shared<TokenMask>();
  mask->bits.resize((static_cast<size_t>(vocab_size_) + 63) / 64);
  const auto set = [&](TokenId id) {
    mask->bits[static_cast<size_t>(id) / 64] |= uint64_t{1} << (id % 64);
    mask->only = id;
  };
  if (dead_ends_) dead_ends_->begin_mask();
  walk_->run(matcher, tokens, 0, [&](size_t node, const Matcher& behind) {
    if (dead_ends_ && dead_ends_->dead(behind)) return true;
    for (uint32_t t = tokens.nodes[node].first; t < tokens.nodes[node + 1].first; ++t) set(tokens.tokens[t]);
    return true;
  });
  for (const uint64_t word : mask->bits) mask->continuations += std::popcount(word);
  if (matcher.complete()) {
    for (const TokenId id : end_ids_) set(id);
  }
  for (const uint64_t word : mask->bits) mask->count += std::popcount(word);
  if (mask->count != 1) mask->only = -1;
  return mask;
}

}  // namespace llmtool
