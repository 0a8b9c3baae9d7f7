#pragma once
// GBNF: llama.cpp's format of grammars.

#include <memory>
#include <string>
#include <string_view>

#include "llmtool/grammar/matcher.h"

namespace llmtool {

/// The texts of the rule `root`. All of the format but its references to tokens (<...>); a rule may begin
/// with itself, and an alternative may begin a line. Rules that no text fits are as if they were not there.
/// Throws UsageError, opening with `origin` and naming line, column, what was expected and found; and where
/// no text is a `root`, or the grammar is too large.
std::shared_ptr<const Grammar> parse_gbnf(std::string_view source, const std::string& origin);

}  // namespace llmtool
