#include "grammar/stack_machine.h"

#include <algorithm>
#include <numeric>

#include "grammar/stack_memory.h"

namespace llmtool {

namespace {
constexpr size_t kMaxRefinement = 1000000;  // states that are looked at to find alike ones
}

StackMachine::StackMachine(RuleAutomaton rules, std::string origin)
    : rules_(std::move(rules)), origin_(std::move(origin)) {
  find_byte_classes();
  memory_ = std::make_shared<Memory>(*this);
}
StackMachine::~StackMachine() = default;

/// Two bytes are of one class where every step reads both or neither.
void StackMachine::find_byte_classes() {
  std::array<bool, 257> bounds{};
  for (const auto& state : rules_.states) {
    for (const auto& step : state.steps) bounds[step.low] = bounds[step.high + 1u] = true;
  }
  for (size_t b = 1; b < 256; ++b) class_[b] = static_cast<uint8_t>(class_[b - 1] + bounds[b]);
  num_classes_ = class_[255] + 1u;
}

StackMachine::Position StackMachine::start() const {
  Position at;
  {
    const std::lock_guard lock(mutex_);
    at.memory = memory_;
  }
  const std::lock_guard lock(at.memory->mutex);
  at.stacks = at.memory->start();
  return at;
}

std::shared_ptr<StackMachine::Memory> StackMachine::fresh(const std::shared_ptr<Memory>& full) const {
  const std::lock_guard lock(mutex_);
  if (memory_ == full) memory_ = std::make_shared<Memory>(*this);
  return memory_;
}

bool StackMachine::compute(Position& at, uint8_t byte) const {
  const auto finish = [&] {
    at.stacks = at.memory->step(*at.stacks, byte);
    return at.stacks->has_empty || !at.stacks->tops.empty();
  };
  {
    const std::lock_guard lock(at.memory->mutex);
    if (!at.memory->full()) return finish();
  }
  const std::shared_ptr<Memory> old = at.memory;  // keeps the stacks until they are adopted
  at.memory = fresh(old);
  const std::lock_guard lock(at.memory->mutex);
  at.stacks = at.memory->adopt(*at.stacks);
  return finish();
}

void StackMachine::append_key(const Position& at, std::string& key, int64_t reach) const {
  const std::lock_guard lock(at.memory->mutex);
  const uint64_t number = at.memory->key(*at.stacks, reach);
  key.append(reinterpret_cast<const char*>(&number), sizeof(number));
}

std::shared_ptr<const std::vector<uint32_t>> StackMachine::state_classes(int64_t reach) const {
  const std::lock_guard lock(mutex_);
  auto& known = state_classes_[reach];
  if (known) return known;
  std::vector<uint32_t> classes(rules_.states.size());
  for (size_t s = 0; s < classes.size(); ++s) classes[s] = rules_.states[s].accepting;
  size_t count = 0;
  for (int64_t round = 0; round < reach; ++round) {  // every move reads a byte at least
    if (static_cast<size_t>(round) * classes.size() > kMaxRefinement) {
      std::iota(classes.begin(), classes.end(), 0u);  // each its own
      break;
    }
    std::map<std::vector<uint64_t>, uint32_t> numbers;
    std::vector<uint32_t> finer(classes.size());
    for (size_t s = 0; s < classes.size(); ++s) {
      const auto& state = rules_.states[s];
      std::vector<uint64_t> moves;
      for (const auto& step : state.steps) {
        moves.push_back(uint64_t{step.low} << 48 | uint64_t{step.high} << 40 | classes[step.to]);
      }
      for (const auto& call : state.calls) {
        moves.push_back(uint64_t{1} << 63 | uint64_t{call.rule} << 32 | classes[call.to]);
      }
      std::sort(moves.begin(), moves.end());
      moves.erase(std::unique(moves.begin(), moves.end()), moves.end());
      moves.push_back(state.accepting);
      finer[s] = numbers.try_emplace(std::move(moves), numbers.size()).first->second;
    }
    classes = std::move(finer);
    if (numbers.size() == std::exchange(count, numbers.size())) break;
  }
  known = std::make_shared<const std::vector<uint32_t>>(std::move(classes));
  return known;
}

namespace {
class StackMatcher : public Matcher {
 public:
  explicit StackMatcher(std::shared_ptr<const StackMachine> machine)
      : machine_(std::move(machine)), at_(machine_->start()) {}

  std::unique_ptr<Matcher> clone() const override { return std::make_unique<StackMatcher>(*this); }
  void assign(const Matcher& other) override {
    const auto& from = static_cast<const StackMatcher&>(other);
    at_.stacks = from.at_.stacks;
    if (at_.memory != from.at_.memory) at_.memory = from.at_.memory;
  }
  bool push(uint8_t byte) override { return machine_->step(at_, byte); }
  bool complete() const override { return at_.stacks->has_empty; }
  void append_key(std::string& key, int64_t reach) const override { machine_->append_key(at_, key, reach); }

 private:
  std::shared_ptr<const StackMachine> machine_;
  StackMachine::Position at_;
};

class RuleGrammar : public Grammar {
 public:
  explicit RuleGrammar(std::shared_ptr<const StackMachine> machine) : machine_(std::move(machine)) {}
  std::unique_ptr<Matcher> matcher() const override { return std::make_unique<StackMatcher>(machine_); }

 private:
  std::shared_ptr<const StackMachine> machine_;
};
}  // namespace

std::shared_ptr<const Grammar> grammar_of_rules(const std::vector<NamedRule>& rules,
                                                const std::string& origin) {
  return std::make_shared<RuleGrammar>(
      std::make_shared<const StackMachine>(compile_rules(rules, origin), origin));
}

}  // namespace llmtool
