#pragma once
// KeyLabels: which of several languages a key is in, all read at once.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/byte_dfa.h"

namespace llmtool {

/// The product of the languages. A label is a set of keys that are in the same of them.
class KeyLabels {
 public:
  using State = uint32_t;
  static constexpr uint32_t kNoLabel = UINT32_MAX;
  static constexpr size_t kMaxLabels = 64;
  static constexpr uint64_t kEndless = UINT64_MAX;

  /// Throws Error on more than kMaxLabels labels or 65536 states.
  explicit KeyLabels(const std::vector<const ByteDfa*>& languages);

  size_t num_labels() const { return members_.size(); }
  /// Whether the keys of a label are in a language.
  bool in(uint32_t label, size_t language) const { return members_[label][language]; }
  State next(State state, uint8_t byte) const { return trivial_ ? 0 : table_[size_t(state) * 256 + byte]; }
  State start() const { return start_; }
  uint32_t label(State state) const { return trivial_ ? 0 : labels_[state]; }
  uint32_t label(std::string_view key) const;
  /// Whether nothing need be read, there being one label.
  bool trivial() const { return trivial_; }
  /// Labels of which endlessly many, or any, keys begin so.
  uint64_t endless(State state) const { return trivial_ ? 1 : endless_[state]; }
  uint64_t reachable(State state) const { return trivial_ ? 1 : reachable_[state]; }
  /// How many keys of the label begin so.
  uint64_t count(State state, uint32_t label) const;
  /// All of them; there must be few.
  std::vector<std::string> keys(uint32_t label) const;

 private:
  void build(const std::vector<const ByteDfa*>& languages);
  void count_label(uint32_t label);

  bool trivial_ = false;
  State start_ = 0;
  std::vector<std::vector<bool>> members_;  // by label, by language
  std::vector<State> table_;                // (states, 256); 0 is dead
  std::vector<uint32_t> labels_;
  std::vector<uint64_t> endless_, reachable_;
  std::vector<std::vector<uint64_t>> counts_;  // by label, by state
};

}  // namespace llmtool
