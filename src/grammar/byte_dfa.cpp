#include "grammar/byte_dfa.h"

#include <algorithm>
#include <map>
#include <unordered_map>

#include "grammar/regex_parser.h"
#include "grammar/stack_memory.h"
#include "llmtool/core/error.h"

namespace llmtool {

namespace {
[[noreturn]] void refuse_states(const std::string& origin) {
  throw UsageError(cat(origin, origin.empty() ? "" : ": ", "the expression needs more than ",
                       ByteDfa::kMaxStates, " states: shorten its repetitions and its lists of texts"));
}
[[noreturn]] void refuse_work(const std::string& origin) {
  throw UsageError(cat(origin, origin.empty() ? "" : ": ",
                       "the patterns and listed texts that hold together take too much work to combine; let "
                       "fewer of them meet in one value"));
}
}  // namespace

ByteDfa::ByteDfa(Expression expression, const std::string& origin) {
  std::vector<NamedRule> rules;
  rules.push_back({"expression", "", std::move(expression)});
  const StackMachine machine(build_rules(rules, origin), origin);
  class_ = machine.byte_classes();
  width_ = machine.num_classes();
  std::array<uint8_t, 256> sample{};  // a byte of every class
  for (size_t b = 0; b < 256; ++b) sample[class_[b]] = static_cast<uint8_t>(b);

  StackMachine::Memory memory(machine);
  std::unordered_map<const StackSet*, State> number;
  std::vector<const StackSet*> sets = {nullptr};
  const auto state_of = [&](const StackSet* set) {
    if (!set->has_empty && set->tops.empty()) return kDead;
    const auto [entry, is_new] = number.try_emplace(set, static_cast<State>(sets.size()));
    if (is_new) sets.push_back(set);
    if (sets.size() > kMaxStates) refuse_states(origin);
    return entry->second;
  };
  start_ = state_of(memory.start());
  table_.assign(width_, kDead);
  std::vector<bool> accepting = {false};
  for (size_t s = 1; s < sets.size(); ++s) {
    accepting.push_back(sets[s]->has_empty);
    for (uint32_t c = 0; c < width_; ++c) table_.push_back(state_of(memory.step(*sets[s], sample[c])));
  }
  minimize(accepting);
}

ByteDfa ByteDfa::search(std::string_view regex, const std::string& origin) {
  return {Expression::sequence({Expression::any_text(), parse_regex(regex, origin), Expression::any_text()}),
          origin};
}

ByteDfa ByteDfa::of_length(int64_t least, int64_t most, const std::string& origin) {
  return {Expression::repeat(Expression::characters({0, CodePoints::kLast}), least,
                             most < 0 ? Expression::kUnbounded : most),
          origin};
}

ByteDfa ByteDfa::any() { return {Expression::any_text(), "any text"}; }

ByteDfa ByteDfa::of_text(std::string_view text) { return {Expression::text(text), "a text"}; }

ByteDfa ByteDfa::combined(const ByteDfa& a, const ByteDfa& b, Combine how, const std::string& origin,
                          size_t& budget) {
  ByteDfa d;
  const auto spend = [&budget, &origin](size_t moves) {
    if (budget < moves) refuse_work(origin);
    budget -= moves;
  };
  spend(256);  // the classes
  std::map<std::pair<uint8_t, uint8_t>, uint8_t> classes;
  std::vector<std::pair<uint8_t, uint8_t>> pairs;
  for (size_t byte = 0; byte < 256; ++byte) {
    const std::pair<uint8_t, uint8_t> both{a.class_[byte], b.class_[byte]};
    const auto [entry, is_new] = classes.try_emplace(both, static_cast<uint8_t>(pairs.size()));
    if (is_new) pairs.push_back(both);
    d.class_[byte] = entry->second;
  }
  d.width_ = static_cast<uint32_t>(pairs.size());

  std::unordered_map<uint64_t, State> number;
  std::vector<std::pair<State, State>> states = {{kDead, kDead}};
  const auto state_of = [&](State x, State y) {
    const bool dead = how == Combine::either ? x == kDead && y == kDead
                      : how == Combine::both ? x == kDead || y == kDead
                                             : x == kDead;
    if (dead) return kDead;
    const auto [entry, is_new] = number.try_emplace(uint64_t{x} << 32 | y, static_cast<State>(states.size()));
    if (is_new) states.emplace_back(x, y);
    if (states.size() > 4 * kMaxStates) refuse_states(origin);
    return entry->second;
  };
  d.start_ = state_of(a.start_, b.start_);
  d.table_.assign(d.width_, kDead);
  std::vector<bool> accepting = {false};
  for (size_t s = 1; s < states.size(); ++s) {
    const auto [x, y] = states[s];
    spend(d.width_);
    const bool in_a = a.accepts(x), in_b = b.accepts(y);
    accepting.push_back(how == Combine::either ? in_a || in_b
                        : how == Combine::both ? in_a && in_b
                                               : in_a && !in_b);
    for (const auto& [of_a, of_b] : pairs) {
      d.table_.push_back(state_of(a.table_[x * a.width_ + of_a], b.table_[y * b.width_ + of_b]));
    }
  }
  d.minimize(accepting);
  if (d.size() > kMaxStates) refuse_states(origin);
  return d;
}

bool ByteDfa::matches(std::string_view text) const {
  State s = start_;
  for (const char c : text) s = next(s, static_cast<uint8_t>(c));
  return accepts(s);
}

std::vector<uint32_t> ByteDfa::classes(int64_t reach) const {
  std::vector<uint32_t> of(size());
  for (size_t s = 0; s < of.size(); ++s) of[s] = s == kDead ? 0 : accepts(static_cast<State>(s)) ? 2 : 1;
  size_t count = 0;
  for (int64_t round = 0; round < reach; ++round) {
    std::map<std::vector<uint32_t>, uint32_t> numbers;
    std::vector<uint32_t> finer(of.size());
    for (size_t s = 0; s < of.size(); ++s) {
      std::vector<uint32_t> row = {of[s]};
      for (uint32_t c = 0; c < width_; ++c) row.push_back(of[table_[s * width_ + c]]);
      finer[s] = numbers.try_emplace(std::move(row), static_cast<uint32_t>(numbers.size())).first->second;
    }
    of = std::move(finer);
    if (numbers.size() == std::exchange(count, numbers.size())) break;
  }
  return of;
}

}  // namespace llmtool
