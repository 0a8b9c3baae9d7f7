#include "text/byte_level.h"

#include <array>

#include "text/unicode.h"

namespace llmtool {

namespace {
/// Printable bytes of Latin 1 stand for themselves, the others, in order, for U+0100 and what follows.
std::array<char32_t, 256> alphabet() {
  std::array<char32_t, 256> characters;
  char32_t next = 0x100;
  for (char32_t b = 0; b < 256; ++b) {
    const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    characters[b] = printable ? b : next++;
  }
  return characters;
}
constexpr size_t kLimit = 0x100 + 68;  // one past the alphabet's last character

std::array<int, kLimit> inverse() {
  std::array<int, kLimit> bytes;
  bytes.fill(-1);
  const auto characters = alphabet();
  for (size_t b = 0; b < 256; ++b) bytes[characters[b]] = static_cast<int>(b);
  return bytes;
}
}  // namespace

std::string characters_of_bytes(std::string_view bytes) {
  static const auto characters = alphabet();
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char c : bytes) unicode::append(text, characters[static_cast<uint8_t>(c)]);
  return text;
}

std::optional<std::string> bytes_of_characters(std::string_view text) {
  static const auto bytes = inverse();
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const char32_t c = unicode::next(text, at);
    if (c >= kLimit || bytes[c] < 0) return std::nullopt;
    out += static_cast<char>(bytes[c]);
  }
  return out;
}

}  // namespace llmtool
