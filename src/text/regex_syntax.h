#pragma once
// Oniguruma's syntax for Ruby, which tokenizer.json files are written in, in PCRE2's words.

#include <string>
#include <string_view>

namespace llmtool {

/// Throws Error, opening with `origin`, on constructs that have no counterpart.
std::string pcre_of_oniguruma(std::string_view pattern, const std::string& origin);

}  // namespace llmtool
