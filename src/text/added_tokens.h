#pragma once
// Tokens that are found in a text before the model sees it.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "llmtool/text/tokenizer.h"

namespace llmtool {

struct AddedToken {
  TokenId id = 0;
  std::string content;
  bool single_word = false;             // only where no word character stands beside it
  bool lstrip = false, rstrip = false;  // takes the white space beside it, too
  bool normalized = false;              // found in the normalized text
  bool special = false;
};

/// Finds added tokens: of those that begin first the longest.
class AddedTokenFinder {
 public:
  /// `pattern` is the text to be found, which differs from the content where that is normalized.
  void add(const AddedToken& token, std::string_view pattern);
  bool empty() const { return tokens_.empty(); }
  /// Calls found(part, token) for all of the text in order; token is nullptr for what lies between. Special
  /// tokens are passed over unless `special`.
  void cut(std::string_view text, bool special,
           const std::function<void(std::string_view part, const AddedToken* token)>& found) const;

 private:
  struct Node {
    std::vector<std::pair<uint8_t, uint32_t>> children;
    int64_t token = -1;
  };
  std::vector<Node> nodes_ = std::vector<Node>(1);
  std::vector<AddedToken> tokens_;
  bool begins_[256] = {};
};

}  // namespace llmtool
