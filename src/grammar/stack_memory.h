#pragma once
// Memory of a StackMachine: the stack sets it has met, and what it has found out about them.

#include <string>
#include <unordered_set>

#include "grammar/stack_machine.h"

namespace llmtool {

class StackMachine::Memory {
 public:
  explicit Memory(const StackMachine& machine);

  std::mutex mutex;  // of every method
  bool full() const { return bytes_ > max_bytes_; }
  const StackSet* start();
  /// What `stacks` leads to by `byte`; the set without stacks where no text goes on so.
  const StackSet* step(const StackSet& stacks, uint8_t byte);
  /// The same set, of another memory, in this one.
  const StackSet* adopt(const StackSet& foreign);
  /// A number that only sets share which go on alike for `reach` bytes.
  uint64_t key(const StackSet& stacks, int64_t reach);

 private:
  static constexpr size_t kMaxBytes = size_t{64} << 20;
  using Tops = std::vector<std::pair<uint32_t, const StackSet*>>;
  struct Hash {
    size_t operator()(const StackSet* s) const;
  };
  struct Equal {
    bool operator()(const StackSet* a, const StackSet* b) const {
      return a->has_empty == b->has_empty && a->tops == b->tops;
    }
  };
  struct PairHash {
    size_t operator()(const std::pair<const void*, uint64_t>& p) const;
  };
  struct Keys {  // for one reach
    std::shared_ptr<const std::vector<uint32_t>> classes;
    std::map<std::vector<uint64_t>, uint64_t> numbers;
    std::unordered_map<std::pair<const void*, uint64_t>, uint64_t, PairHash> of_sets;  // by bytes left, too
  };

  const StackSet* intern(bool has_empty, Tops tops);
  const StackSet* unite(const StackSet* a, const StackSet* b);
  /// Adds stacks to the set being made: `state` above those of `below`.
  void add(uint32_t state, const StackSet* below);
  const StackSet* finish();
  const StackSet* as_position(const StackSet* stacks);
  uint64_t key(const StackSet& stacks, uint64_t reach, Keys& keys);

  const StackMachine& machine_;
  std::deque<StackSet> sets_;
  std::unordered_set<StackSet*, Hash, Equal> known_;
  std::unordered_map<std::pair<const void*, uint64_t>, const StackSet*, PairHash> unions_;
  std::map<int64_t, Keys> keys_;
  const StackSet* bottom_;  // the empty stack alone
  size_t bytes_ = 0, max_bytes_ = kMaxBytes;
  // The set being made.
  std::vector<const StackSet*> below_;  // of every state
  std::vector<uint32_t> touched_, work_;
  bool made_empty_ = false;
};

}  // namespace llmtool
