#pragma once
// DeadEnds: texts that a form could go on with, and the vocabulary could not.

#include <string>
#include <unordered_map>

#include "grammar/token_trie.h"

namespace llmtool {

/// For the matchers of one grammar.
class DeadEnds {
 public:
  /// `trie` of tokens within a text; it outlives this.
  explicit DeadEnds(const TokenTrie& trie) : trie_(trie) {}

  /// Forgets what was found: a mask must depend on its state alone, not on those that came before.
  void begin_mask();
  /// Whether it is proven that no tokens bring what `matcher` has read to an end.
  bool dead(const Matcher& matcher);

 private:
  bool search(const Matcher& matcher, std::string key);

  const TokenTrie& trie_;
  TrieWalk walk_;
  std::unordered_map<std::string, bool> known_;  // by the state's key: whether it is dead
  std::string key_;
  size_t left_ = 0;  // states to look at for this mask
};

}  // namespace llmtool
