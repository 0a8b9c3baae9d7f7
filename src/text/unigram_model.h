#pragma once
// Unigram language model (Kudo 2018): the pieces whose scores have the greatest sum.

#include <vector>

#include "text/subword_model.h"

namespace llmtool {

class UnigramModel : public SubwordModel {
 public:
  /// `scores` are the pieces' log-probabilities, by id. A character without a piece costs 10 more than the
  /// worst one and becomes `unknown`, several in a row one; with byte_fallback pieces "<0xE2>" where all of
  /// them exist. Throws Error on a word with such a character where unknown is -1.
  UnigramModel(Vocabulary pieces, std::vector<double> scores, TokenId unknown, bool byte_fallback);
  void encode(std::string_view word, std::vector<TokenId>& ids) const override;

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
  void add_unknown(std::string_view text, std::vector<TokenId>& ids) const;

  Vocabulary pieces_;
  std::vector<double> scores_;
  TokenId unknown_;
  bool byte_fallback_;
  double unknown_score_ = 0;
  TokenId byte_ids_[256];
  std::vector<Node> nodes_;  // of a trie; the first is the root
  std::vector<Edge> edges_;
};

}  // namespace llmtool
