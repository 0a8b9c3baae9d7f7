#pragma once
// Sets of characters, and how UTF-8 spells them.

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

namespace llmtool {

/// A set of code points. Surrogates, which UTF-8 cannot spell, are in no set.
class CodePoints {
 public:
  using Range = std::pair<char32_t, char32_t>;  // first and last
  static constexpr char32_t kLast = 0x10FFFF;

  CodePoints() = default;
  CodePoints(char32_t first, char32_t last) { add(first, last); }

  void add(char32_t first, char32_t last);
  void add(char32_t c) { add(c, c); }
  void add(const CodePoints& other);
  CodePoints complement() const;
  bool empty() const { return ranges_.empty(); }
  const std::vector<Range>& ranges() const { return ranges_; }  // sorted, apart from each other

  /// Sequences of one to four ranges of bytes, whose products are the characters' spellings.
  struct Spelling {
    std::array<std::pair<uint8_t, uint8_t>, 4> bytes;
    uint32_t length = 0;
  };
  std::vector<Spelling> spellings() const;

 private:
  std::vector<Range> ranges_;
};

}  // namespace llmtool
