#pragma once
// BadTexts: texts that never stand in a text, however its tokens spell it.

#include <span>
#include <string>
#include <vector>

#include "llmtool/text/tokenizer.h"

namespace llmtool {

class BadTexts {
 public:
  /// Throws UsageError on an empty text.
  BadTexts(const Tokenizer& tokenizer, std::vector<std::string> texts);

  /// Of each id of the tokenizer, whether it would end one of the texts, byte for byte, or hold one, behind
  /// `tokens`. Special tokens add nothing and part nothing, as in the text that is printed.
  std::vector<bool> ending(std::span<const TokenId> tokens) const;
  size_t size() const { return texts_.size(); }

 private:
  bool is_text(TokenId id) const;
  std::string before(std::span<const TokenId> tokens) const;
  void add_beginning_with(std::string_view bytes, std::vector<bool>& ids) const;

  std::vector<std::string> texts_;
  size_t longest_ = 0;                       // of them, in bytes
  std::vector<bool> special_;                // by id
  std::vector<std::string> added_, opened_;  // what an id adds within a text, and at its beginning
  std::vector<bool> holding_, opening_;  // ids that hold a bad text by themselves, within and at a beginning
  std::vector<TokenId> by_added_;        // in the order of what they add
};

}  // namespace llmtool
