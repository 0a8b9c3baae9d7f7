#pragma once
// SentencePiece's compiled normalization rules: which sequences of bytes become which.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace llmtool {

/// A double-array trie (Darts-clone) and a table of NUL-ended strings that its leaves point into.
class CharacterMap {
 public:
  /// Throws Error, opening with `origin`, unless every place that a search could step to exists.
  CharacterMap(std::string_view bytes, const std::string& origin);
  /// What the shortest beginning of `text` that has a rule becomes.
  std::optional<std::string_view> find(std::string_view text) const;

 private:
  size_t offset(size_t unit) const;
  void check(const std::string& origin) const;

  std::vector<uint32_t> units_;
  std::string strings_;
};

}  // namespace llmtool
