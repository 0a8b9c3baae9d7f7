#include "llmtool/grammar/regex_grammar.h"

#include "grammar/regex_parser.h"
#include "grammar/stack_machine.h"

namespace llmtool {

std::shared_ptr<const Grammar> parse_regex_grammar(std::string_view regex, const std::string& origin) {
  std::vector<NamedRule> rules;
  rules.push_back({"the expression", "", parse_regex(regex, origin)});
  return grammar_of_rules(rules, origin);
}

}  // namespace llmtool
