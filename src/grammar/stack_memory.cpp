#include "grammar/stack_memory.h"

#include <algorithm>

#include "llmtool/core/error.h"

namespace llmtool {

namespace {
constexpr uint32_t kMaxDepth = 20000;  // of stacks that are taken apart recursively
constexpr uint64_t kCut = UINT64_MAX;

uint64_t mix(uint64_t h, uint64_t x) {
  h = (h ^ x) * 0x9E3779B97F4A7C15;
  return h ^ (h >> 29);
}
}  // namespace

size_t StackMachine::Memory::Hash::operator()(const StackSet* s) const {
  uint64_t h = s->has_empty;
  for (const auto& [state, below] : s->tops) h = mix(mix(h, state), reinterpret_cast<uintptr_t>(below));
  return h;
}

size_t StackMachine::Memory::PairHash::operator()(const std::pair<const void*, uint64_t>& p) const {
  return mix(mix(0, reinterpret_cast<uintptr_t>(p.first)), p.second);
}

StackMachine::Memory::Memory(const StackMachine& machine) : machine_(machine) {
  below_.resize(machine.rules_.states.size());
  bottom_ = intern(true, {});
}

const StackSet* StackMachine::Memory::intern(bool has_empty, Tops tops) {
  StackSet made;
  made.has_empty = has_empty;
  made.tops = std::move(tops);
  if (const auto found = known_.find(&made); found != known_.end()) return *found;
  for (const auto& [state, below] : made.tops) made.depth = std::max(made.depth, below->depth + 1);
  bytes_ += sizeof(StackSet) + 64 + made.tops.size() * sizeof(made.tops[0]);
  sets_.push_back(std::move(made));
  known_.insert(&sets_.back());
  return &sets_.back();
}

const StackSet* StackMachine::Memory::unite(const StackSet* a, const StackSet* b) {
  if (a == b) return a;
  if (a > b) std::swap(a, b);
  const std::pair<const void*, uint64_t> both{a, reinterpret_cast<uintptr_t>(b)};
  if (const auto found = unions_.find(both); found != unions_.end()) return found->second;
  if (std::min(a->depth, b->depth) > kMaxDepth) {
    throw Error(cat(machine_.origin_, ": a text that can be read in several ways is nested more than ",
                    kMaxDepth, " deep"));
  }
  Tops tops;
  auto x = a->tops.begin(), y = b->tops.begin();
  while (x != a->tops.end() || y != b->tops.end()) {
    if (y == b->tops.end() || (x != a->tops.end() && x->first < y->first)) {
      tops.push_back(*x++);
    } else if (x == a->tops.end() || y->first < x->first) {
      tops.push_back(*y++);
    } else {
      tops.emplace_back(x->first, unite(x->second, y->second));
      ++x;
      ++y;
    }
  }
  const StackSet* united = intern(a->has_empty || b->has_empty, std::move(tops));
  unions_.emplace(both, united);
  bytes_ += 64;
  return united;
}

void StackMachine::Memory::add(uint32_t state, const StackSet* below) {
  const StackSet*& known = below_[state];
  if (known == nullptr) {
    touched_.push_back(state);
    known = below;
  } else {
    const StackSet* united = unite(known, below);
    if (united == known) return;
    known = united;
  }
  work_.push_back(state);
}

/// Follows ends and calls from what was added.
const StackSet* StackMachine::Memory::finish() {
  const auto& states = machine_.rules_.states;
  while (!work_.empty()) {
    const uint32_t s = work_.back();
    work_.pop_back();
    const StackSet* below = below_[s];
    const RuleAutomaton::State& state = states[s];
    if (state.accepting) {
      made_empty_ = made_empty_ || below->has_empty;
      for (const auto& [back, rest] : below->tops) add(back, rest);
    }
    for (const auto& call : state.calls) {
      const uint32_t first = machine_.rules_.starts[call.rule];
      add(first, states[call.to].only_ends() ? below : intern(false, {{call.to, below}}));
    }
  }
  Tops tops;
  for (const uint32_t s : touched_) {
    if (!states[s].steps.empty()) tops.emplace_back(s, below_[s]);
    below_[s] = nullptr;
  }
  touched_.clear();
  std::sort(tops.begin(), tops.end());
  return as_position(intern(std::exchange(made_empty_, false), std::move(tops)));
}

const StackSet* StackMachine::Memory::as_position(const StackSet* stacks) {
  auto& next = const_cast<StackSet*>(stacks)->next;  // ours
  if (!next) {
    next = std::make_unique<std::atomic<const StackSet*>[]>(machine_.num_classes_);
    bytes_ += machine_.num_classes_ * sizeof(next[0]);
  }
  return stacks;
}

const StackSet* StackMachine::Memory::start() {
  made_empty_ = machine_.rules_.empty_text;
  add(machine_.rules_.starts[0], bottom_);
  return finish();
}

const StackSet* StackMachine::Memory::step(const StackSet& stacks, uint8_t byte) {
  for (const uint32_t s : touched_) below_[s] = nullptr;  // of a step that threw
  touched_.clear();
  work_.clear();
  made_empty_ = false;
  for (const auto& [s, below] : stacks.tops) {
    for (const auto& step : machine_.rules_.states[s].steps) {
      if (step.low <= byte && byte <= step.high) add(step.to, below);
    }
  }
  const StackSet* next = finish();
  stacks.next[machine_.class_[byte]].store(next, std::memory_order_release);
  return next;
}

const StackSet* StackMachine::Memory::adopt(const StackSet& foreign) {
  std::unordered_map<const StackSet*, const StackSet*> ours;
  std::vector<const StackSet*> path = {&foreign};
  while (!path.empty()) {
    const StackSet* set = path.back();
    Tops tops;
    bool ready = true;
    for (const auto& [state, below] : set->tops) {
      const auto found = ours.find(below);
      if (found == ours.end()) {
        path.push_back(below);
        ready = false;
      } else {
        tops.emplace_back(state, found->second);
      }
    }
    if (!ready) continue;
    path.pop_back();
    ours.emplace(set, intern(set->has_empty, std::move(tops)));
  }
  max_bytes_ = std::max(kMaxBytes, 2 * bytes_);  // deep stacks are not moved again at every step
  return as_position(ours.at(&foreign));
}

uint64_t StackMachine::Memory::key(const StackSet& stacks, int64_t reach) {
  Keys& keys = keys_[reach];
  if (!keys.classes) keys.classes = machine_.state_classes(reach);
  return key(stacks, static_cast<uint64_t>(reach), keys);
}

/// What lies below a state matters only where fewer bytes than are left can bring its rule to an end.
uint64_t StackMachine::Memory::key(const StackSet& stacks, uint64_t reach, Keys& keys) {
  const std::pair<const void*, uint64_t> place{&stacks, reach};
  if (const auto found = keys.of_sets.find(place); found != keys.of_sets.end()) return found->second;
  if (stacks.depth > kMaxDepth) return keys.of_sets.emplace(place, machine_.next_key_++).first->second;
  std::vector<std::pair<uint64_t, uint64_t>> parts;
  for (const auto& [state, below] : stacks.tops) {
    const uint64_t least = machine_.rules_.states[state].least;
    const uint64_t left = reach == static_cast<uint64_t>(Matcher::kAnyReach) ? reach : reach - least;
    parts.emplace_back((*keys.classes)[state], least <= reach ? key(*below, left, keys) : kCut);
  }
  std::sort(parts.begin(), parts.end());
  parts.erase(std::unique(parts.begin(), parts.end()), parts.end());
  std::vector<uint64_t> text = {stacks.has_empty};
  for (const auto& [state, below] : parts) text.insert(text.end(), {state, below});
  bytes_ += 128 + text.size() * sizeof(text[0]);
  const auto [entry, is_new] = keys.numbers.try_emplace(std::move(text), 0);
  if (is_new) entry->second = machine_.next_key_++;
  keys.of_sets.emplace(place, entry->second);
  return entry->second;
}

}  // namespace llmtool
