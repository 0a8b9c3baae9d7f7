#pragma once
// Cutting texts at matches of a pattern, as tokenizer.json says it.

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "llmtool/io/json.h"
#include "llmtool/text/regex.h"

namespace llmtool {

/// What becomes of the matches.
enum class SplitBehavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

struct Span {
  size_t begin, end;
  bool match;
};

/// Matches and what lies between them: all of the text.
std::vector<Span> spans_of(const Regex& pattern, std::string_view text);
/// Every character that `is_match` likes is a match.
std::vector<Span> spans_of(const std::function<bool(char32_t)>& is_match, std::string_view text);
/// The parts that are left, as spans; none is empty.
std::vector<Span> split(const std::vector<Span>& spans, SplitBehavior behavior);

/// `pattern`: {"String": text} or {"Regex": expression}.
Regex read_pattern(const JsonObject& object);
/// `behavior`: "Removed", "Isolated", ...
SplitBehavior read_behavior(const JsonObject& object, const char* absent);

}  // namespace llmtool
