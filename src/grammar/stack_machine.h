#pragma once
// StackMachine: reads a text by rules that call each other, in all ways at once.

#include <array>
#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "grammar/rule_automaton.h"
#include "llmtool/grammar/matcher.h"

namespace llmtool {

/// A set of stacks as a trie from their tops: each is a state of a rule, above the states where its callers
/// go on. Equal sets are one StackSet, so that a machine's steps are found again: it becomes a deterministic
/// automaton as it is used.
struct StackSet {
  bool has_empty = false;  // the empty stack is one of them: all rules have ended
  uint32_t depth = 0;      // of the highest stack
  std::vector<std::pair<uint32_t, const StackSet*>> tops;  // state, what lies below it; by state
  /// By class of bytes, where this set is what a text has led to: nullptr: not yet known; a set without
  /// stacks: no text goes on so.
  std::unique_ptr<std::atomic<const StackSet*>[]> next;
};

/// May be used from several threads at once.
class StackMachine {
 public:
  StackMachine(RuleAutomaton rules, std::string origin);
  ~StackMachine();

  class Memory;  // of stack sets; when it is full, a new one takes its place
  /// What a text has led to.
  struct Position {
    std::shared_ptr<Memory> memory;
    const StackSet* stacks = nullptr;
  };

  Position start() const;
  bool step(Position& at, uint8_t byte) const {
    const StackSet* next = at.stacks->next[class_[byte]].load(std::memory_order_acquire);
    if (next == nullptr) return compute(at, byte);
    at.stacks = next;
    return next->has_empty || !next->tops.empty();
  }
  void append_key(const Position& at, std::string& key, int64_t reach) const;
  const std::array<uint8_t, 256>& byte_classes() const { return class_; }
  uint32_t num_classes() const { return num_classes_; }

 private:
  friend class Memory;
  void find_byte_classes();
  bool compute(Position& at, uint8_t byte) const;
  std::shared_ptr<Memory> fresh(const std::shared_ptr<Memory>& full) const;
  /// Classes of states from which a rule goes on alike for `reach` bytes.
  std::shared_ptr<const std::vector<uint32_t>> state_classes(int64_t reach) const;

  RuleAutomaton rules_;
  std::string origin_;
  std::array<uint8_t, 256> class_{};
  uint32_t num_classes_ = 0;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<Memory> memory_;
  mutable std::map<int64_t, std::shared_ptr<const std::vector<uint32_t>>> state_classes_;
  mutable std::atomic<uint64_t> next_key_{0};
};

/// The form of the first rule.
std::shared_ptr<const Grammar> grammar_of_rules(const std::vector<NamedRule>& rules,
                                                const std::string& origin);

}  // namespace llmtool
