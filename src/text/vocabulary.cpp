#include "text/vocabulary.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstdio>

#include "llmtool/core/error.h"

namespace llmtool {

namespace {
constexpr int64_t kMaxId = int64_t{1} << 21;  // gaps cost memory, too
}

size_t Vocabulary::slot_of(std::string_view token) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = XXH3_64bits(token.data(), token.size()) & mask;
  while (slots_[slot] >= 0 && tokens_[static_cast<size_t>(slots_[slot])] != token) slot = (slot + 1) & mask;
  return slot;
}

void Vocabulary::grow() {
  slots_.assign(slots_.empty() ? 1024 : slots_.size() * 2, -1);
  for (size_t id = 0; id < tokens_.size(); ++id) {
    if (used_[id]) slots_[slot_of(tokens_[id])] = static_cast<TokenId>(id);
  }
}

void Vocabulary::add(std::string_view token, int64_t id, const std::string& origin) {
  if (id < 0 || id >= kMaxId) throw Error(cat(origin, ": expected an id below ", kMaxId, ", found ", id));
  if (count_ * 2 >= slots_.size()) grow();
  const auto place = static_cast<size_t>(id);
  if (place >= tokens_.size()) {
    tokens_.resize(place + 1);
    used_.resize(place + 1);
  }
  const size_t slot = slot_of(token);
  if (slots_[slot] == id) return;
  if (slots_[slot] >= 0) {
    throw Error(
        cat(origin, ": the token \"", token, "\" stands twice, with the ids ", slots_[slot], " and ", id));
  }
  if (used_[place]) {
    throw Error(
        cat(origin, ": the id ", id, " has two tokens, \"", tokens_[place], "\" and \"", token, "\""));
  }
  tokens_[place] = token;
  used_[place] = true;
  slots_[slot] = static_cast<TokenId>(id);
  ++count_;
  longest_ = std::max(longest_, token.size());
}

TokenId Vocabulary::find(std::string_view token) const {
  if (slots_.empty() || token.size() > longest_) return -1;
  return slots_[slot_of(token)];
}

BytePieces::BytePieces(const Vocabulary& pieces) {
  for (size_t byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(byte));
    ids_[byte] = pieces.find(name);
  }
}

bool BytePieces::append(std::string_view text, std::vector<TokenId>& ids) const {
  for (const char c : text) {
    if (ids_[static_cast<uint8_t>(c)] < 0) return false;
  }
  for (const char c : text) ids.push_back(ids_[static_cast<uint8_t>(c)]);
  return true;
}

}  // namespace llmtool
