#pragma once
// RuleBuilder: one rule after the other as an automaton with empty moves, then without.

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "grammar/rule_automaton.h"

namespace llmtool {

class RuleBuilder {
 public:
  RuleBuilder(const std::vector<NamedRule>& rules, const std::string& origin);
  /// Not yet trimmed.
  RuleAutomaton build();

 private:
  struct Raw {  // a state with empty moves: `empty` always, the others where the text begins or ends
    std::vector<RuleAutomaton::Step> steps;
    std::vector<RuleAutomaton::Call> calls;
    std::vector<uint32_t> empty, at_begin, at_end;
  };

  void find_nullable(const std::vector<NamedRule>& rules);
  bool nullable(const Expression& e) const;
  uint32_t add_raw();
  void add(const Expression& e, uint32_t from, uint32_t to);
  void add_characters(const CodePoints& set, uint32_t from, uint32_t to);
  void add_repeat(const Expression& e, uint32_t from, uint32_t to);
  void close(uint32_t from, bool begins, RuleAutomaton::State& state);
  void finish_rule(bool root);

  const std::string& origin_;
  std::vector<const Expression*> rules_;  // those given, then repeated parts that are rules of their own
  std::vector<bool> nullable_;            // of those given
  std::vector<Raw> raw_;                  // of the rule at work; the first is its start, the second its end
  std::map<std::tuple<uint32_t, uint8_t, uint8_t>, uint32_t> tails_;  // of spellings
  std::vector<uint32_t> seen_;                                        // by which closing
  uint32_t closings_ = 0;
  size_t size_ = 0;
  RuleAutomaton out_;
};

}  // namespace llmtool
