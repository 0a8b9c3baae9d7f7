#pragma once
// ArrayShape: arrays, read item by item.

#include <functional>
#include <vector>

#include "grammar/schema_alternative.h"

namespace llmtool {

class ArrayShape {
 public:
  /// How many items were read, as far as that matters, and of them how many serve each `contains`.
  struct State {
    uint64_t index = 0;
    std::vector<uint64_t> counts;
    friend bool operator==(const State& a, const State& b) = default;
  };
  /// A value that may come next: a node, and the `contains` that it serves, as bits.
  struct Choice {
    uint32_t node;
    uint32_t serves;
    bool usable = false;  // the node has values
  };

  /// `node` gives the number of a formula's node. Throws UsageError on what cannot be enforced.
  ArrayShape(const ArrayPart& part, SchemaFormulas& formulas,
             const std::function<uint32_t(SchemaFormulas::Id)>& node);

  /// Learns which nodes have values. Says whether the shape then has one.
  bool update(const std::vector<bool>& satisfiable);
  /// Whether it has endlessly many however far one is read, short of its end.
  bool always_open() const;
  bool unique() const { return unique_; }
  uint64_t min() const { return min_; }
  uint64_t max() const { return max_; }
  /// Choices by index; the last stand for all indices behind.
  const std::vector<std::vector<Choice>>& positions() const { return choices_; }
  bool counts_items() const { return !contains_.empty(); }

  State start() const { return {0, std::vector<uint64_t>(contains_.size(), 0)}; }
  bool may_close(const State& state) const;
  /// The choices for the item that comes next; allowed() tells which of them may be taken.
  const std::vector<Choice>& choices(const State& state) const;
  bool allowed(const State& state, const Choice& choice) const;
  bool may_go_on(const State& state) const;
  State state_after(const State& state, const Choice& choice) const;
  void append_key(std::string& text, const State& state, int64_t reach) const;

 private:
  size_t position(const State& state) const {
    return size_t(std::min<uint64_t>(state.index, choices_.size() - 1));
  }
  void tabulate();
  size_t number(const std::vector<uint64_t>& counts) const;
  bool counted(const std::vector<uint64_t>& counts) const;
  /// How many more items it takes at least; kNoLimit: no number of them will do.
  uint64_t needed(const State& state) const;
  uint64_t fewest(uint64_t index, const std::vector<uint64_t>& counts) const;

  uint64_t min_, max_;
  bool unique_;
  std::vector<ContainsPart> contains_;
  std::vector<std::vector<Choice>> choices_;  // by index
  uint64_t end_ = 0;                          // the first index at which nothing may stand
  uint64_t settled_ = 0;                      // from this index on, states are alike
  size_t num_counts_ = 1;
  std::vector<uint64_t> table_;  // needed(), by index up to settled_ and by the counts
};

}  // namespace llmtool
