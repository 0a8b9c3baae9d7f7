#pragma once
// How often each word of a corpus stands in it.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace llmtool {

/// A hash table of words, kept in the order of their first occurrence.
class WordCounts {
 public:
  void add(std::string_view word);

  size_t size() const { return entries_.size(); }
  std::string_view word(size_t i) const { return {bytes_.data() + entries_[i].begin, entries_[i].length}; }
  int64_t count(size_t i) const { return entries_[i].count; }

 private:
  struct Entry {
    uint64_t hash;
    size_t begin, length;  // in bytes_
    int64_t count;
  };
  void grow();

  std::string bytes_;  // the words one behind the other
  std::vector<Entry> entries_;
  std::vector<uint32_t> slots_;  // 1 + the entry's number, 0: free; linear probing, at most half full
};

}  // namespace llmtool
