#pragma once
// Unigram language model (Kudo 2018): the pieces whose scores have the greatest sum.

#include <vector>

#include "text/prefix_trie.h"
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
  void add_unknown(std::string_view text, std::vector<TokenId>& ids) const;

  Vocabulary pieces_;
  std::vector<double> scores_;
  TokenId unknown_;
  BytePieces bytes_;  // none without byte_fallback
  double unknown_score_ = 0;
  PrefixTrie trie_;
};

}  // namespace llmtool
