#pragma once
// UTF-8, character by character.

#include <algorithm>
#include <cstdint>
#include <string_view>

namespace llmtool {

/// The length of the well-formed character (Unicode 15, table 3-7) that `text` starts with; 0 where there is
/// none. `incomplete` is set when the bytes end within a character that could still become well-formed.
inline int utf8_length(std::string_view text, bool* incomplete = nullptr) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  if (text.empty()) return 0;
  const uint8_t first = byte(0);
  if (first < 0x80) return 1;
  const int length = first >= 0xC2 && first < 0xE0   ? 2
                     : (first & 0xF0) == 0xE0        ? 3
                     : first >= 0xF0 && first < 0xF5 ? 4
                                                     : 0;
  if (length == 0) return 0;
  for (size_t i = 1; i < static_cast<size_t>(length); ++i) {
    if (i >= text.size()) {
      if (incomplete) *incomplete = true;
      return 0;
    }
    uint8_t low = 0x80, high = 0xBF;
    if (i == 1 && first == 0xE0) low = 0xA0;   // overlong
    if (i == 1 && first == 0xED) high = 0x9F;  // surrogates
    if (i == 1 && first == 0xF0) low = 0x90;
    if (i == 1 && first == 0xF4) high = 0x8F;
    if (byte(i) < low || byte(i) > high) return 0;
  }
  return length;
}

/// How many bytes at the start of `text` are well-formed.
inline size_t utf8_valid_length(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const int n = static_cast<uint8_t>(text[at]) < 0x80 ? 1 : utf8_length(text.substr(at));
    if (n == 0) break;
    at += static_cast<size_t>(n);
  }
  return at;
}

/// Where `text` does not start with a character: how many of its bytes could have begun one, at least 1
/// (Unicode 15, "maximal subpart").
inline size_t utf8_broken_length(std::string_view text) {
  for (size_t n = 1; n < text.size() && n < 4; ++n) {
    bool incomplete = false;
    utf8_length(text.substr(0, n + 1), &incomplete);
    if (!incomplete) return n;
  }
  return std::max<size_t>(1, std::min<size_t>(text.size(), 3));
}

inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

}  // namespace llmtool
