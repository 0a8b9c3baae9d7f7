#include <algorithm>

#include "fuzz.h"
#include "grammar/byte_dfa.h"
#include "llmtool/core/error.h"
#include "llmtool/core/rng.h"
#include "llmtool/grammar/gbnf.h"
#include "llmtool/grammar/json_schema.h"
#include "llmtool/grammar/regex_grammar.h"
#include "llmtool/io/json.h"

namespace llmtool::test {
// The first letter says what the rest is: a grammar, an expression, an expression to search for, a schema.
std::vector<std::string> seed_corpus() {
  return {
      "groot ::= value\nvalue ::= [0-9]{1,9} | \"[\" (value (\",\" value)*)? \"]\" | \"\\u00e9\\x41\" # c\n",
      "groot ::= root \"+\" root | t\nt ::= t? [^a-c\\n] | .{2,} | \"(\" root \")\"\n",
      "groot ::= a b?\na ::= b \"1\" | \"\"\nb ::= (a | \"x\"){0,20} \"y\"\n",
      "r(?:a|b)*[^\\d\\sé]{2,5}?\\p{Lu}\\u{1F600}(x|)$",
      "s^(\\w+)\\.(com|org)$|^$",
      R"(j{"type":"object","properties":{"a":{"type":"integer","minimum":-3,"multipleOf":0.5},"b":{"$ref":"#"}},
         "required":["a"],"patternProperties":{"^x|y$":{"enum":[1,"z",null,[{}]]}},"maxProperties":3})",
      R"(j{"oneOf":[{"type":"array","prefixItems":[{"const":1}],"items":{"type":"string","pattern":"a+","maxLength":4},
         "contains":{"minLength":3},"uniqueItems":true},{"not":{"required":["k"]},"unevaluatedProperties":false}]})"};
}
}  // namespace llmtool::test

namespace {
/// A walk at random over what may follow: a form has no dead ends.
void walk(const llmtool::Grammar& grammar, uint64_t seed) {
  llmtool::Rng rng(seed);
  const auto matcher = grammar.matcher(), next = grammar.matcher();
  for (int length = 0; length < 50; ++length) {
    std::string allowed;
    for (int b = 0; b < 256; ++b) {
      next->assign(*matcher);
      if (next->push(static_cast<uint8_t>(b))) allowed += static_cast<char>(b);
    }
    if (allowed.empty() && !matcher->complete()) std::abort();
    if (allowed.empty()) return;
    matcher->push(static_cast<uint8_t>(allowed[rng.below(allowed.size())]));
    std::string key;
    matcher->append_key(key, 20);
  }
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view source(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    if (data[0] == 's') {
      const auto dfa = llmtool::ByteDfa::search(source, "input");
      size_t budget = 1 << 20;
      if (dfa.matches(source))
        llmtool::ByteDfa::combined(dfa, dfa, llmtool::ByteDfa::Combine::first_only, "input", budget);
    } else if (data[0] == 'j') {
      walk(*llmtool::parse_json_schema(llmtool::parse_json(source, "input"), "input"), size);
    } else {
      walk(data[0] == 'g' ? *llmtool::parse_gbnf(source, "input")
                          : *llmtool::parse_regex_grammar(source, "input"),
           size);
    }
  } catch (const llmtool::Error&) {
  }
  return 0;
}
