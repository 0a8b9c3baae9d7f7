#pragma once
// Text of a model on a terminal, which it must not be able to steer.

#include <cstdint>
#include <string>
#include <string_view>

namespace llmtool {

/// The columns that well-formed UTF-8 takes: East Asian wide characters two, marks none.
int64_t display_width(std::string_view text);

/// Control characters but line breaks and tabs, and those that turn the direction of text, as U+FFFD.
std::string printable(std::string_view text);

/// On one line of at most `columns`: white space as one space, "..." in place of an end that does not fit.
std::string one_line(std::string_view text, int64_t columns);

}  // namespace llmtool
