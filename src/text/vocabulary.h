#pragma once
// Tokens and their ids.

#include <algorithm>
#include <array>
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

/// The pieces "<0x00>" to "<0xFF>", which stand for single bytes.
class BytePieces {
 public:
  BytePieces() { ids_.fill(-1); }
  explicit BytePieces(const Vocabulary& pieces);
  /// Appends a piece for each byte of `text`; false, and nothing, where one of them has none.
  bool append(std::string_view text, std::vector<TokenId>& ids) const;
  bool contains(TokenId id) const { return std::find(ids_.begin(), ids_.end(), id) != ids_.end(); }

 private:
  std::array<TokenId, 256> ids_;  // -1: none
};

}  // namespace llmtool
