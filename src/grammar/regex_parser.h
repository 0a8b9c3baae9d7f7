#pragma once
// Regular expressions, as ECMA-262 writes them with the flag u.

#include <string>
#include <string_view>

#include "grammar/expression.h"

namespace llmtool {

/// Literals, `.` (no line terminator), classes, \d \w \s (ECMA-262's) and \p{...} with their negations,
/// groups, alternatives, quantifiers, ^ and $. Throws UsageError, opening with `origin` and naming the place,
/// on what is not well-formed and on what is not regular or not supported: assertions, backreferences, flags.
Expression parse_regex(std::string_view regex, const std::string& origin);

}  // namespace llmtool
