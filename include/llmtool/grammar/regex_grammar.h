#pragma once
// A regular expression as a form.

#include <memory>
#include <string>
#include <string_view>

#include "llmtool/grammar/matcher.h"

namespace llmtool {

/// The texts that match `regex` as a whole, written as in ECMA-262 with the flag u: literals, `.` (no line
/// terminator), classes, \d \w \s, \p{...}, groups, alternatives, quantifiers (lazy ones find the same
/// texts), ^ and $. Throws UsageError, opening with `origin` and naming the character, on what is not
/// well-formed; on what is not regular or not supported (word boundaries, looking ahead or behind,
/// backreferences, possessive quantifiers, flags); and where no text matches.
std::shared_ptr<const Grammar> parse_regex_grammar(std::string_view regex, const std::string& origin);

}  // namespace llmtool
