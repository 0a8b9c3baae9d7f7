#include "grammar/code_points.h"

#include <algorithm>

namespace llmtool {

namespace {
constexpr CodePoints::Range kSurrogates{0xD800, 0xDFFF};

std::array<uint8_t, 4> spell(char32_t c, uint32_t length) {
  std::array<uint8_t, 4> bytes{};
  constexpr uint8_t kLead[] = {0, 0, 0xC0, 0xE0, 0xF0};
  for (uint32_t i = length; i-- > 1; c >>= 6) bytes[i] = static_cast<uint8_t>(0x80 | (c & 0x3F));
  bytes[0] = static_cast<uint8_t>(kLead[length] | c);
  return bytes;
}

/// Splits a range of characters of the same length until the ranges of its bytes are independent.
void split(char32_t first, char32_t last, uint32_t length, std::vector<CodePoints::Spelling>& out) {
  for (uint32_t i = 1; i < length; ++i) {
    const char32_t low = (char32_t{1} << (6 * i)) - 1;
    if ((first & ~low) == (last & ~low)) break;
    if ((first & low) != 0) {
      split(first, first | low, length, out);
      return split((first | low) + 1, last, length, out);
    }
    if ((last & low) != low) {
      split(first, (last & ~low) - 1, length, out);
      return split(last & ~low, last, length, out);
    }
  }
  const auto a = spell(first, length), b = spell(last, length);
  CodePoints::Spelling s;
  s.length = length;
  for (uint32_t i = 0; i < length; ++i) s.bytes[i] = {a[i], b[i]};
  out.push_back(s);
}
}  // namespace

void CodePoints::add(char32_t first, char32_t last) {
  if (first < kSurrogates.first && last >= kSurrogates.first) {
    add(first, kSurrogates.first - 1);
    first = kSurrogates.first;
  }
  if (first >= kSurrogates.first && first <= kSurrogates.second) first = kSurrogates.second + 1;
  if (last >= kSurrogates.first && last <= kSurrogates.second) last = kSurrogates.first - 1;
  if (first > last) return;
  // The ranges that touch the new one become one with it.
  auto from = std::lower_bound(ranges_.begin(), ranges_.end(), first,
                               [](const Range& r, char32_t c) { return r.second + 1 < c; });
  auto to = from;
  for (; to != ranges_.end() && to->first <= last + 1; ++to) {
    first = std::min(first, to->first);
    last = std::max(last, to->second);
  }
  from = ranges_.erase(from, to);
  ranges_.insert(from, {first, last});
}

void CodePoints::add(const CodePoints& other) {
  for (const auto& [first, last] : other.ranges_) add(first, last);
}

CodePoints CodePoints::complement() const {
  CodePoints rest;
  char32_t from = 0;
  for (const auto& [first, last] : ranges_) {
    if (first > from) rest.add(from, first - 1);
    from = last + 1;
  }
  if (from <= kLast) rest.add(from, kLast);
  return rest;
}

std::vector<CodePoints::Spelling> CodePoints::spellings() const {
  constexpr char32_t kLongest[] = {0, 0x7F, 0x7FF, 0xFFFF, kLast};
  std::vector<Spelling> out;
  for (const auto& [first, last] : ranges_) {
    for (uint32_t length = 1; length <= 4; ++length) {
      const char32_t low = std::max<char32_t>(first, length == 1 ? 0 : kLongest[length - 1] + 1);
      const char32_t high = std::min(last, kLongest[length]);
      if (low <= high) split(low, high, length, out);
    }
  }
  return out;
}

}  // namespace llmtool
