#include "text/word_counts.h"

#include <xxhash.h>

#include "llmtool/core/error.h"

namespace llmtool {

void WordCounts::add(std::string_view word) {
  if (2 * entries_.size() >= slots_.size()) grow();
  const uint64_t hash = XXH3_64bits(word.data(), word.size());
  const size_t mask = slots_.size() - 1;
  size_t slot = hash & mask;
  for (; slots_[slot] != 0; slot = (slot + 1) & mask) {
    const size_t i = slots_[slot] - 1;
    if (entries_[i].hash != hash || this->word(i) != word) continue;
    ++entries_[i].count;
    return;
  }
  entries_.push_back({hash, bytes_.size(), word.size(), 1});
  bytes_ += word;
  slots_[slot] = static_cast<uint32_t>(entries_.size());
}

void WordCounts::grow() {
  if (entries_.size() >= size_t{1} << 31)
    throw Error("[tokenizer] expected at most 2147483648 different words");
  slots_.assign(slots_.empty() ? 1024 : 2 * slots_.size(), 0);
  const size_t mask = slots_.size() - 1;
  for (size_t i = 0; i < entries_.size(); ++i) {
    size_t slot = entries_[i].hash & mask;
    while (slots_[slot] != 0) slot = (slot + 1) & mask;
    slots_[slot] = static_cast<uint32_t>(i + 1);
  }
}

}  // namespace llmtool
