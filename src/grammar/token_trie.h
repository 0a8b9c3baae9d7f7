#pragma once
// TokenTrie: the texts of a vocabulary's tokens, walked with a matcher.

#include <memory>
#include <string>
#include <vector>

#include "llmtool/grammar/matcher.h"
#include "llmtool/text/tokenizer.h"

namespace llmtool {

/// Nodes in depth-first order. Tokens that begin by closing something come first: a search for an
/// end finds it soon.
struct TokenTrie {
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

  explicit TokenTrie(std::vector<std::string> given);
  /// Whether each byte that UTF-8 has is a token of its own: then no text is without tokens.
  bool spells_every_byte() const;
};

/// Walks with the matchers of one grammar.
class TrieWalk {
 public:
  /// Shows `visit` the nodes where tokens end that go on behind `matcher`, each with a matcher that has read
  /// its text, from node `from` on, until it returns false. Where to walk on.
  template <class Visit>
  size_t run(const Matcher& matcher, const TokenTrie& trie, size_t from, const Visit& visit);

 private:
  std::vector<std::unique_ptr<Matcher>> stack_;  // by depth
};

template <class Visit>
size_t TrieWalk::run(const Matcher& matcher, const TokenTrie& trie, size_t from, const Visit& visit) {
  const std::vector<TokenTrie::Node>& nodes = trie.nodes;
  if (from + 1 >= nodes.size()) return from;
  while (stack_.size() <= trie.longest) stack_.push_back(matcher.clone());
  stack_[0]->assign(matcher);
  // A node's first token, be it of one below, begins with the node's text.
  const std::string& text = trie.texts[static_cast<size_t>(trie.tokens[nodes[from].first])];
  for (uint32_t depth = 1; depth < nodes[from].depth; ++depth) {
    stack_[depth]->assign(*stack_[depth - 1]);
    stack_[depth]->push(static_cast<uint8_t>(text[depth - 1]));
  }
  for (size_t i = from; i + 1 < nodes.size();) {
    const TokenTrie::Node& node = nodes[i];
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
    ++i;
    if (node.first < nodes[i].first && !visit(i - 1, *stack_[node.depth])) return i;
  }
  return nodes.size() - 1;
}

}  // namespace llmtool
