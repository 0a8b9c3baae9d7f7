#include "llmtool/grammar/token_masks.h"

#include <algorithm>
#include <bit>

namespace llmtool {

/// The tokens' texts as a trie, its nodes in depth-first order.
struct TokenMasks::Trie {
  struct Node {
    uint8_t byte = 0;
    uint32_t depth = 0;  // 1 below the root, which has no node
    uint32_t skip = 0;   // the first node behind those below this one
    uint32_t first = 0;  // of its tokens; they end where the next node's begin
  };
  std::vector<Node> nodes;  // and one behind the last
  std::vector<TokenId> tokens;
  std::vector<std::string> texts;  // by id; "": never
  size_t longest = 0;

  explicit Trie(std::vector<std::string> given) : texts(std::move(given)) {
    std::vector<TokenId> order;
    for (size_t i = 0; i < texts.size(); ++i) {
      longest = std::max(longest, texts[i].size());
      if (!texts[i].empty()) order.push_back(static_cast<TokenId>(i));
    }
    const auto text = [&](TokenId id) -> const std::string& { return texts[static_cast<size_t>(id)]; };
    std::stable_sort(order.begin(), order.end(), [&](TokenId a, TokenId b) { return text(a) < text(b); });
    std::vector<uint32_t> path;  // nodes from the top to where the last token ended
    std::string last;
    const auto close = [&](size_t depth) {
      for (; path.size() > depth; path.pop_back())
        nodes[path.back()].skip = static_cast<uint32_t>(nodes.size());
    };
    for (const TokenId id : order) {
      const std::string& t = text(id);
      const size_t shared = static_cast<size_t>(
          std::mismatch(last.begin(), last.end(), t.begin(), t.end()).first - last.begin());
      close(shared);
      for (size_t i = shared; i < t.size(); ++i) {
        path.push_back(static_cast<uint32_t>(nodes.size()));
        nodes.push_back({static_cast<uint8_t>(t[i]), static_cast<uint32_t>(i + 1), 0,
                         static_cast<uint32_t>(tokens.size())});
      }
      tokens.push_back(id);
      last = t;
    }
    close(0);
    nodes.push_back({0, 0, 0, static_cast<uint32_t>(tokens.size())});
  }
};

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
  anywhere_ = std::make_shared<const Trie>(std::move(anywhere));
  at_start_ = same ? anywhere_ : std::make_shared<const Trie>(std::move(at_start));
  const size_t mask_bytes = static_cast<size_t>(vocab_size) / 8 + 256;
  max_masks_ = std::max<size_t>(1, max_bytes / mask_bytes);
}
TokenMasks::~TokenMasks() = default;

const TokenMasks::Trie& TokenMasks::trie(bool at_start) const { return at_start ? *at_start_ : *anywhere_; }

std::string_view TokenMasks::text(TokenId id, bool at_start) const {
  const auto& texts = trie(at_start).texts;
  return static_cast<size_t>(id) < texts.size() ? std::string_view(texts[static_cast<size_t>(id)]) : "";
}

std::shared_ptr<const TokenMask> TokenMasks::allowed(const Matcher& matcher, bool at_start) {
  const Trie& tokens = trie(at_start);
  key_.assign(1, static_cast<char>(matcher.complete() + 2 * (&tokens != anywhere_.get())));
  matcher.append_key(key_, static_cast<int64_t>(tokens.longest));
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

std::shared_ptr<const TokenMask> TokenMasks::make(const Matcher& matcher, const Trie& tokens) {
  auto mask = std::make_shared<TokenMask>();
  mask->bits.resize((static_cast<size_t>(vocab_size_) + 63) / 64);
  const auto set = [&](TokenId id) {
    mask->bits[static_cast<size_t>(id) / 64] |= uint64_t{1} << (id % 64);
    mask->only = id;
  };
  if (stack_.empty()) stack_.push_back(matcher.clone());
  while (stack_.size() <= tokens.longest) stack_.push_back(matcher.clone());
  stack_[0]->assign(matcher);
  const std::vector<Trie::Node>& nodes = tokens.nodes;
  for (size_t i = 0; i + 1 < nodes.size();) {
    const Trie::Node& node = nodes[i];
    const bool last = nodes[node.skip].depth < node.depth;  // of its parent, which is needed no more
    if (last) {
      std::swap(stack_[node.depth], stack_[node.depth - 1]);
    } else {
      stack_[node.depth]->assign(*stack_[node.depth - 1]);
    }
    if (!stack_[node.depth]->push(node.byte)) {
      i = node.skip;
      continue;
    }
    for (uint32_t t = node.first; t < nodes[i + 1].first; ++t) set(tokens.tokens[t]);
    ++i;
  }
  for (const uint64_t word : mask->bits) mask->continuations += std::popcount(word);
  if (matcher.complete()) {
    for (const TokenId id : end_ids_) set(id);
  }
  for (const uint64_t word : mask->bits) mask->count += std::popcount(word);
  if (mask->count != 1) mask->only = -1;
  return mask;
}

}  // namespace llmtool
