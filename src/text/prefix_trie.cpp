#include "text/prefix_trie.h"

#include <algorithm>

namespace llmtool {

PrefixTrie::PrefixTrie(const Vocabulary& pieces, const std::function<bool(TokenId)>& wanted) : roots_(256) {
  // Breadth first: the pieces in order, and each node's edges one behind the other.
  std::vector<std::pair<std::string_view, TokenId>> sorted;
  for (TokenId id = 0; id < pieces.size(); ++id) {
    if (pieces.has(id) && !pieces.token(id).empty() && (!wanted || wanted(id)))
      sorted.emplace_back(pieces.token(id), id);
  }
  std::sort(sorted.begin(), sorted.end());
  struct Range {
    uint32_t node;
    size_t begin, end, depth;
  };
  std::vector<Range> open = {{0, 0, sorted.size(), 0}};
  nodes_.emplace_back();
  for (size_t next = 0; next < open.size(); ++next) {
    const Range range = open[next];
    size_t at = range.begin;
    if (at < range.end && sorted[at].first.size() == range.depth) nodes_[range.node].id = sorted[at++].second;
    nodes_[range.node].child = static_cast<uint32_t>(edges_.size());
    while (at < range.end) {
      const char byte = sorted[at].first[range.depth];
      const size_t begin = at;
      while (at < range.end && sorted[at].first[range.depth] == byte) ++at;
      const auto child = static_cast<uint32_t>(nodes_.size());
      edges_.push_back({static_cast<uint8_t>(byte), child});
      if (range.node == 0) roots_[static_cast<uint8_t>(byte)] = child;
      ++nodes_[range.node].children;
      open.push_back({child, begin, at, range.depth + 1});
      nodes_.emplace_back();
    }
  }
}

uint32_t PrefixTrie::step(uint32_t node, uint8_t byte) const {
  const Node& n = nodes_[node];
  const auto begin = edges_.begin() + n.child, end = begin + n.children;
  const auto it = std::lower_bound(begin, end, byte, [](const Edge& e, uint8_t b) { return e.byte < b; });
  return it != end && it->byte == byte ? it->node : 0;
}

void PrefixTrie::find(std::string_view text, std::vector<Match>& found) const {
  found.clear();
  if (nodes_.empty() || text.empty()) return;
  uint32_t node = roots_[static_cast<uint8_t>(text[0])];
  for (size_t length = 1; node != 0; ++length) {
    if (nodes_[node].id >= 0) found.push_back({length, nodes_[node].id});
    if (length == text.size()) return;
    node = step(node, static_cast<uint8_t>(text[length]));
  }
}

}  // namespace llmtool
