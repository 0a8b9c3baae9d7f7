#include "grammar/rule_automaton.h"

#include <queue>

#include "grammar/rule_builder.h"
#include "llmtool/core/error.h"

namespace llmtool {

namespace {
constexpr uint32_t kNever = RuleAutomaton::kNever;

/// Fills in `least`, nearest ends first (Knuth, A Generalization of Dijkstra's Algorithm, 1977).
class Measure {
 public:
  explicit Measure(RuleAutomaton& automaton)
      : a_(automaton), rule_of_start_(automaton.states.size(), kNever) {
    for (size_t r = 0; r < a_.starts.size(); ++r) rule_of_start_[a_.starts[r]] = static_cast<uint32_t>(r);
    find_predecessors();
    for (size_t s = 0; s < a_.states.size(); ++s) {
      a_.states[s].least = kNever;
      if (a_.states[s].accepting) offer(static_cast<uint32_t>(s), 0);
    }
    while (!nearest_.empty()) {
      const auto [least, s] = nearest_.top();
      nearest_.pop();
      if (a_.states[s].least == kNever) settle(s, least);
    }
  }

 private:
  struct Caller {
    uint32_t from, rule, to;
  };
  using Entry = std::pair<uint32_t, uint32_t>;  // bytes, state

  void find_predecessors() {
    before_.resize(a_.states.size());
    calls_to_.resize(a_.states.size());
    calls_of_.resize(a_.starts.size());
    for (size_t i = 0; i < a_.states.size(); ++i) {
      const auto s = static_cast<uint32_t>(i);
      for (const auto& step : a_.states[i].steps) before_[step.to].push_back(s);
      for (const auto& call : a_.states[i].calls) {
        calls_to_[call.to].push_back({s, call.rule, call.to});
        calls_of_[call.rule].push_back({s, call.rule, call.to});
      }
    }
  }
  void offer(uint32_t s, uint32_t least) { nearest_.emplace(least, s); }
  void offer(const Caller& c) {
    const uint32_t rule = a_.states[a_.starts[c.rule]].least, rest = a_.states[c.to].least;
    if (rule != kNever && rest != kNever) offer(c.from, std::min(rule + rest, kNever / 4));
  }
  void settle(uint32_t s, uint32_t least) {
    a_.states[s].least = least;
    for (const uint32_t from : before_[s]) offer(from, least + 1);
    for (const Caller& c : calls_to_[s]) offer(c);
    if (rule_of_start_[s] == kNever) return;
    for (const Caller& c : calls_of_[rule_of_start_[s]]) offer(c);
  }

  RuleAutomaton& a_;
  std::vector<uint32_t> rule_of_start_;
  std::vector<std::vector<uint32_t>> before_;
  std::vector<std::vector<Caller>> calls_to_, calls_of_;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> nearest_;
};

/// Drops the moves from which no end is reached.
void trim(RuleAutomaton& a) {
  const auto never = [&](uint32_t s) { return a.states[s].least == kNever; };
  for (auto& state : a.states) {
    std::erase_if(state.steps, [&](const auto& step) { return never(step.to); });
    std::erase_if(state.calls,
                  [&](const auto& call) { return never(call.to) || never(a.starts[call.rule]); });
  }
}
}  // namespace

void refuse_size(const std::string& origin) {
  throw UsageError(cat(origin, origin.empty() ? "" : ": ", "the form is too large: it needs more than ",
                       RuleAutomaton::kMaxSize, " moves; shorten its repetitions and its lists of texts"));
}

RuleAutomaton build_rules(const std::vector<NamedRule>& rules, const std::string& origin) {
  RuleAutomaton a = RuleBuilder(rules, origin).build();
  { const Measure measured(a); }
  trim(a);
  remove_left_recursion(a, origin);
  { const Measure measured(a); }
  return a;
}

RuleAutomaton compile_rules(const std::vector<NamedRule>& rules, const std::string& origin) {
  RuleAutomaton a = build_rules(rules, origin);
  if (a.states[a.starts[0]].least == kNever && !a.empty_text) {
    const NamedRule& root = rules[0];
    throw UsageError(cat(origin, root.place.empty() ? "" : ": ", root.place, ": ", root.name,
                         ": expected a form that some text has, found one that none has"));
  }
  return a;
}

}  // namespace llmtool
