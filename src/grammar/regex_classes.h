#pragma once
// The sets of characters that regular expressions name.

#include <optional>
#include <string>

#include "grammar/code_points.h"

namespace llmtool {

/// Of \d, \w, \s and `.` of ECMA-262.
CodePoints regex_class(char32_t letter);
/// Of \p{name} (a general category, a script, a binary property) or \p{name=value}; nothing where Unicode has
/// no such property.
std::optional<CodePoints> unicode_property(const std::string& name);

}  // namespace llmtool
