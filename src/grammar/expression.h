#pragma once
// Expression: what GBNF rules and regular expressions are read into.

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "grammar/code_points.h"

namespace llmtool {

struct Expression {
  enum class Kind {
    characters,  // one of `set`
    sequence,    // `parts` one after another; none: the empty text
    choice,      // one of `parts`
    repeat,      // parts[0], `least` to `most` times
    rule,        // rule number `rule`
    begin,       // nothing, where the text begins; in root alone
    end          // nothing, where the text ends; in root alone
  };
  static constexpr int64_t kUnbounded = -1;

  Kind kind = Kind::sequence;
  CodePoints set;
  std::vector<Expression> parts;
  int64_t least = 0, most = 0;
  uint32_t rule = 0;

  static Expression characters(CodePoints set);
  static Expression sequence(std::vector<Expression> parts);
  static Expression choice(std::vector<Expression> parts);
  static Expression repeat(Expression part, int64_t least, int64_t most);
  static Expression reference(uint32_t rule);
  static Expression text(std::string_view utf8);  // well-formed
  static Expression any_text();
  static Expression at(Kind begin_or_end);
};

}  // namespace llmtool
