#pragma once
// RuleAutomaton: rules as automata over bytes that call each other.

#include <cstdint>
#include <string>
#include <vector>

#include "grammar/expression.h"

namespace llmtool {

struct NamedRule {
  std::string name;
  std::string place;  // "line 3", for errors
  Expression expression;
};

/// Every state can be gone on from to the end of its rule: there are no dead ends. Every step and every call
/// reads at least one byte: where a rule may be empty, another way leads around its call.
struct RuleAutomaton {
  static constexpr uint32_t kNever = UINT32_MAX;
  static constexpr size_t kMaxSize = 500000;  // states and moves
  struct Step {                               // reads a byte
    uint8_t low, high;
    uint32_t to;
    auto operator<=>(const Step&) const = default;
  };
  struct Call {  // reads a text of another rule
    uint32_t rule, to;
    auto operator<=>(const Call&) const = default;
  };
  struct State {
    std::vector<Step> steps;
    std::vector<Call> calls;
    bool accepting = false;   // the rule may end here
    uint32_t least = kNever;  // bytes to the nearest end of the rule
    /// Whether the rule can do nothing here but end.
    bool only_ends() const { return accepting && steps.empty() && calls.empty(); }
  };

  std::vector<State> states;
  std::vector<uint32_t> starts;  // of the rules: states that nothing leads to and that do not accept
  bool empty_text = false;       // rule 0, the root, has the empty text
};

/// The automata of `rules`, of which the first is the root. Throws UsageError, opening with `origin`, where
/// the root has no text and where the rules are too large.
RuleAutomaton compile_rules(const std::vector<NamedRule>& rules, const std::string& origin);

/// The same; where the root has no text, an automaton that reads none.
RuleAutomaton build_rules(const std::vector<NamedRule>& rules, const std::string& origin);

[[noreturn]] void refuse_size(const std::string& origin);
/// Rules that begin with themselves, at once or by way of others, do so no more.
void remove_left_recursion(RuleAutomaton& automaton, const std::string& origin);

}  // namespace llmtool
