#include "text/word_piece_model.h"

#include "text/unicode.h"

namespace llmtool {

WordPieceModel::WordPieceModel(Vocabulary pieces, WordPieceOptions options)
    : pieces_(std::move(pieces)), options_(std::move(options)) {}

void WordPieceModel::encode(std::string_view word, std::vector<TokenId>& ids) const {
  const size_t first = ids.size();
  bool known = unicode::length(word) <= static_cast<size_t>(options_.longest_word);
  std::string spelled;
  for (size_t from = 0; known && from < word.size();) {
    spelled = from > 0 ? options_.continuing_prefix : "";
    const size_t prefix = spelled.size();
    spelled += word.substr(from, pieces_.longest());
    // The loop ends at a character's end: a piece is well-formed.
    TokenId id = -1;
    size_t length = spelled.size();
    for (; length > prefix; --length) {
      id = pieces_.find(std::string_view(spelled).substr(0, length));
      if (id >= 0) break;
    }
    known = id >= 0;
    if (known) ids.push_back(id);
    from += length - prefix;
  }
  if (known) return;
  ids.resize(first);
  ids.push_back(options_.unknown);
}

WordLevelModel::WordLevelModel(Vocabulary words, TokenId unknown)
    : words_(std::move(words)), unknown_(unknown) {}

void WordLevelModel::encode(std::string_view word, std::vector<TokenId>& ids) const {
  const TokenId id = words_.find(word);
  if (id >= 0 || unknown_ >= 0) ids.push_back(id >= 0 ? id : unknown_);
}

}  // namespace llmtool
