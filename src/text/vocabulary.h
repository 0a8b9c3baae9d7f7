#pragma once
// Tokens and their ids.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "llmtool/text/tokenizer.h"

namespace llmtool {

/// Both ways between tokens and ids; ids may have gaps.
class Vocabulary {
 public:
  /// Throws Error, opening with `origin`, on an id beyond 2^21, one that has another token already, or a
  /// token that has another id.
  void add(std::string_view token, int64_t id, const std::string& origin);
  /// -1: there is none.
  TokenId find(std::string_view token) const;
  const std::string& token(TokenId id) const { return tokens_[static_cast<size_t>(id)]; }
  bool has(TokenId id) const {
    return id >= 0 && static_cast<size_t>(id) < tokens_.size() && used_[static_cast<size_t>(id)];
  }
  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }  // one past the largest id
  size_t longest() const { return longest_; }                            // token, in bytes

 private:
  size_t slot_of(std::string_view token) const;
  void grow();

  std::vector<std::string> tokens_;
  std::vector<bool> used_;
  std::vector<TokenId> slots_;  // of a hash table; -1: empty
  size_t count_ = 0, longest_ = 0;
};

}  // namespace llmtool
