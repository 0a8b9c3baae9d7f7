// Hopcroft's algorithm (An n log n algorithm for minimizing states in a finite automaton, 1971).

#include <algorithm>
#include <map>
#include <numeric>
#include <span>

#include "grammar/byte_dfa.h"

namespace llmtool {

namespace {
/// States in blocks, each a stretch of one list, of which states are marked and split off.
class Partition {
 public:
  explicit Partition(const std::vector<bool>& first)
      : block_of(first.size()), states_(first.size()), place_(first.size()) {
    std::iota(states_.begin(), states_.end(), 0u);
    const auto middle = std::partition(states_.begin(), states_.end(), [&](uint32_t s) { return !first[s]; });
    const auto cut = static_cast<uint32_t>(middle - states_.begin()), n = static_cast<uint32_t>(first.size());
    if (cut > 0) blocks_.push_back({0, cut, 0});
    if (cut < n) blocks_.push_back({cut, n, 0});
    for (uint32_t i = 0; i < n; ++i) {
      place_[states_[i]] = i;
      block_of[states_[i]] = i < cut || cut == 0 ? 0 : 1;
    }
  }

  size_t size() const { return blocks_.size(); }
  std::vector<uint32_t> members(uint32_t block) const {
    return {states_.begin() + blocks_[block].begin, states_.begin() + blocks_[block].end};
  }
  size_t count(uint32_t block) const { return blocks_[block].end - blocks_[block].begin; }
  void mark(uint32_t state) {
    Block& block = blocks_[block_of[state]];
    const uint32_t to = block.begin + block.marked;
    if (place_[state] < to) return;
    if (block.marked++ == 0) touched_.push_back(block_of[state]);
    std::swap(states_[place_[state]], states_[to]);
    place_[states_[place_[state]]] = place_[state];
    place_[state] = to;
  }
  /// Splits the marked from the others; calls split(old block, new block).
  template <class Split>
  void split_marked(Split split) {
    for (const uint32_t b : std::exchange(touched_, {})) {
      const uint32_t marked = std::exchange(blocks_[b].marked, 0), begin = blocks_[b].begin;
      if (begin + marked == blocks_[b].end) continue;
      blocks_[b].begin += marked;
      const auto fresh = static_cast<uint32_t>(blocks_.size());
      blocks_.push_back({begin, begin + marked, 0});
      for (uint32_t i = begin; i < begin + marked; ++i) block_of[states_[i]] = fresh;
      split(b, fresh);
    }
  }

  std::vector<uint32_t> block_of;  // of every state

 private:
  struct Block {
    uint32_t begin, end, marked;
  };
  std::vector<uint32_t> states_, place_;
  std::vector<Block> blocks_;
  std::vector<uint32_t> touched_;
};

/// For every class of bytes, which states lead to a state.
class Predecessors {
 public:
  Predecessors(const std::vector<uint32_t>& table, uint32_t width)
      : first_(table.size() + 1), from_(table.size()) {
    const auto n = static_cast<uint32_t>(table.size() / width);
    for (size_t i = 0; i < table.size(); ++i) ++first_[table[i] * width + i % width + 1];
    std::partial_sum(first_.begin(), first_.end(), first_.begin());
    std::vector<uint32_t> next(first_.begin(), first_.end() - 1);
    for (uint32_t s = 0; s < n; ++s) {
      for (uint32_t c = 0; c < width; ++c) from_[next[table[s * width + c] * width + c]++] = s;
    }
    width_ = width;
  }
  std::span<const uint32_t> of(uint32_t state, uint32_t c) const {
    const size_t i = static_cast<size_t>(state) * width_ + c;
    return std::span(from_).subspan(first_[i], first_[i + 1] - first_[i]);
  }

 private:
  std::vector<uint32_t> first_, from_;
  uint32_t width_ = 0;
};
}  // namespace

void ByteDfa::minimize(const std::vector<bool>& accepting) {
  Partition blocks(accepting);
  const Predecessors before(table_, width_);
  std::vector<std::pair<uint32_t, uint32_t>> work;  // block, class
  for (uint32_t b = 0; b < blocks.size(); ++b) {
    for (uint32_t c = 0; c < width_; ++c) work.emplace_back(b, c);
  }
  std::vector<std::vector<bool>> waiting(blocks.size(), std::vector<bool>(width_, true));
  while (!work.empty()) {
    const auto [b, c] = work.back();
    work.pop_back();
    waiting[b][c] = false;
    for (const uint32_t state : blocks.members(b)) {
      for (const uint32_t from : before.of(state, c)) blocks.mark(from);
    }
    blocks.split_marked([&](uint32_t old, uint32_t fresh) {
      waiting.emplace_back(width_, false);
      for (uint32_t k = 0; k < width_; ++k) {
        const uint32_t next = waiting[old][k] || blocks.count(fresh) <= blocks.count(old) ? fresh : old;
        waiting[next][k] = true;
        work.emplace_back(next, k);
      }
    });
  }
  renumber(blocks.block_of, accepting);
}

/// One state for each block, the dead one first and the others as they are met from the start.
void ByteDfa::renumber(const std::vector<uint32_t>& block_of, const std::vector<bool>& accepting) {
  std::vector<uint32_t> number(size_t{*std::max_element(block_of.begin(), block_of.end())} + 1, kNever);
  std::vector<uint32_t> order = {kDead};  // a state of each
  number[block_of[kDead]] = kDead;
  const auto renumbered = [&](uint32_t state) {
    uint32_t& n = number[block_of[state]];
    if (n == kNever) {
      n = static_cast<uint32_t>(order.size());
      order.push_back(state);
    }
    return n;
  };
  const uint32_t start = renumbered(start_);
  std::vector<State> table;
  std::vector<bool> accepts;
  for (size_t i = 0; i < order.size(); ++i) {
    accepts.push_back(accepting[order[i]]);
    for (uint32_t c = 0; c < width_; ++c) table.push_back(renumbered(table_[order[i] * width_ + c]));
  }
  start_ = start;
  table_ = std::move(table);
  merge_classes();
  measure(accepts);
}

/// Bytes that every state reads alike become one class.
void ByteDfa::merge_classes() {
  const size_t n = table_.size() / width_;
  std::map<std::vector<State>, uint8_t> columns;
  std::vector<uint8_t> of(width_);
  std::vector<uint32_t> kept;
  for (uint32_t c = 0; c < width_; ++c) {
    std::vector<State> column(n);
    for (size_t s = 0; s < n; ++s) column[s] = table_[s * width_ + c];
    const auto [entry, is_new] = columns.try_emplace(std::move(column), static_cast<uint8_t>(kept.size()));
    if (is_new) kept.push_back(c);
    of[c] = entry->second;
  }
  std::vector<State> table;
  for (size_t s = 0; s < n; ++s) {
    for (const uint32_t c : kept) table.push_back(table_[s * width_ + c]);
  }
  for (uint8_t& c : class_) c = of[c];
  table_ = std::move(table);
  width_ = static_cast<uint32_t>(kept.size());
}

void ByteDfa::measure(const std::vector<bool>& accepting) {
  const Predecessors before(table_, width_);
  shortest_.assign(accepting.size(), kNever);
  std::vector<State> order;
  for (State s = 0; s < accepting.size(); ++s) {
    if (!accepting[s]) continue;
    shortest_[s] = 0;
    order.push_back(s);
  }
  for (size_t i = 0; i < order.size(); ++i) {
    for (uint32_t c = 0; c < width_; ++c) {
      for (const State from : before.of(order[i], c)) {
        if (shortest_[from] != kNever) continue;
        shortest_[from] = shortest_[order[i]] + 1;
        order.push_back(from);
      }
    }
  }
}

}  // namespace llmtool
