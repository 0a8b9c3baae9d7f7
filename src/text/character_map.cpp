#include "text/character_map.h"

#include <cstring>

#include "llmtool/core/error.h"

namespace llmtool {

CharacterMap::CharacterMap(std::string_view map, const std::string& origin) {
  uint32_t trie_bytes = 0;
  if (map.size() < 4) throw Error(origin + ": expected at least 4 bytes");
  std::memcpy(&trie_bytes, map.data(), 4);
  if (trie_bytes % 4 != 0 || trie_bytes < 1024 || trie_bytes > map.size() - 4) {
    throw Error(cat(origin, ": expected a table of at most ", map.size() - 4, " bytes, found ", trie_bytes));
  }
  units_.resize(trie_bytes / 4);
  std::memcpy(units_.data(), map.data() + 4, trie_bytes);
  strings_ = map.substr(4 + trie_bytes);
  if (strings_.empty() || strings_.back() != '\0') throw Error(origin + ": its strings do not end with NUL");
  check(origin);
}

size_t CharacterMap::offset(size_t unit) const {
  return static_cast<size_t>((units_[unit] >> 10) << ((units_[unit] & (1U << 9)) >> 6));
}

void CharacterMap::check(const std::string& origin) const {
  std::vector<bool> seen(units_.size());
  std::vector<size_t> open = {0};
  while (!open.empty()) {
    const size_t node = open.back();
    open.pop_back();
    const size_t base = node ^ offset(node);
    if ((base | 0xFF) >= units_.size()) throw Error(origin + ": its table leads out of itself");
    if ((units_[node] >> 8) & 1) {
      if ((units_[base] & 0x7FFFFFFFU) >= strings_.size())
        throw Error(origin + ": a leaf points behind the strings");
    }
    for (size_t c = 1; c < 256; ++c) {
      const size_t child = base ^ c;
      if ((units_[child] & (0x80000000U | 0xFFU)) != c || seen[child]) continue;
      seen[child] = true;
      open.push_back(child);
    }
  }
}

std::optional<std::string_view> CharacterMap::find(std::string_view text) const {
  size_t at = offset(0);
  for (const char character : text) {
    const size_t c = static_cast<uint8_t>(character);
    if (c == 0) break;
    const size_t node = at ^ c;
    if ((units_[node] & (0x80000000U | 0xFFU)) != c) break;
    at = node ^ offset(node);
    if ((units_[node] >> 8) & 1) return strings_.c_str() + (units_[at] & 0x7FFFFFFFU);
  }
  return std::nullopt;
}

}  // namespace llmtool
