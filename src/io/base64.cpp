#include "llmtool/io/base64.h"

#include <cstdint>

#include "llmtool/core/error.h"

namespace llmtool {

namespace {
int digit(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}
}  // namespace

std::string base64_decoded(std::string_view text, const std::string& origin) {
  const auto refuse = [&](const std::string& what) {
    throw Error(cat(origin, ": expected base64, found ", what));
  };
  if (text.size() % 4 != 0) refuse(cat(text.size(), " characters"));
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  uint32_t bits = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const int value = i + padding >= text.size() ? 0 : digit(text[i]);
    if (value < 0) refuse(cat("a byte ", static_cast<int>(static_cast<uint8_t>(text[i])), " at ", i));
    bits = bits << 6 | static_cast<uint32_t>(value);
    if (i % 4 != 3) continue;
    for (int shift = 16; shift >= 0; shift -= 8) bytes += static_cast<char>(bits >> shift & 0xFF);
  }
  for (size_t i = 0; i < padding; ++i) bytes.pop_back();
  return bytes;
}

}  // namespace llmtool
