#pragma once
// WordPiece: the longest piece that a word starts with, then the longest that the rest starts with (Devlin et
// al. 2019).

#include <string>

#include "text/subword_model.h"

namespace llmtool {

struct WordPieceOptions {
  TokenId unknown = -1;                  // of a word that cannot be cut into pieces
  std::string continuing_prefix = "##";  // of pieces that do not begin a word
  int64_t longest_word = 100;            // characters; longer ones are unknown
};

class WordPieceModel : public SubwordModel {
 public:
  WordPieceModel(Vocabulary pieces, WordPieceOptions options);
  void encode(std::string_view word, std::vector<TokenId>& ids) const override;

 private:
  Vocabulary pieces_;
  WordPieceOptions options_;
};

/// Whole words or the unknown token.
class WordLevelModel : public SubwordModel {
 public:
  WordLevelModel(Vocabulary words, TokenId unknown);
  void encode(std::string_view word, std::vector<TokenId>& ids) const override;

 private:
  Vocabulary words_;
  TokenId unknown_;
};

}  // namespace llmtool
