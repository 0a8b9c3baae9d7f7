#pragma once
// The pieces of a vocabulary that a text begins with.

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "text/vocabulary.h"

namespace llmtool {

class PrefixTrie {
 public:
  PrefixTrie() = default;
  /// Of the pieces for which wanted(id), where it is given.
  explicit PrefixTrie(const Vocabulary& pieces, const std::function<bool(TokenId)>& wanted = {});

  struct Match {
    size_t length;
    TokenId id;
  };
  /// Sets `found` to the pieces that `text` begins with, the shortest first.
  void find(std::string_view text, std::vector<Match>& found) const;

 private:
  struct Node {
    TokenId id = -1;     // of the piece that ends here
    uint32_t child = 0;  // first of its edges
    uint16_t children = 0;
  };
  struct Edge {
    uint8_t byte;
    uint32_t node;
  };
  uint32_t step(uint32_t node, uint8_t byte) const;  // 0: nowhere

  std::vector<Node> nodes_;  // the first is the root
  std::vector<Edge> edges_;
  std::vector<uint32_t> roots_;  // of the root by byte
};

}  // namespace llmtool
