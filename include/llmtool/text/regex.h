#pragma once
// Regular expressions of tokenizers, matched by PCRE2.

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace llmtool {

/// Immutable; may be used from several threads at once.
class Regex {
 public:
  enum class Syntax { oniguruma, pcre };  // tokenizer.json's (Oniguruma's of Ruby), or PCRE2's own

  /// Throws Error, opening with `origin`, on what is not well-formed and on constructs that PCRE2 would read
  /// in another way.
  Regex(std::string_view pattern, const std::string& origin, Syntax syntax = Syntax::oniguruma);

  /// Calls found(begin, end) for each match in `text` (well-formed UTF-8), left to right; matches may be
  /// empty. Throws Error where a match would take more steps than the limit.
  void for_each(std::string_view text, const std::function<void(size_t, size_t)>& found) const;

 private:
  struct Code;
  std::string origin_;
  std::shared_ptr<const Code> code_;
};

/// A pattern that matches exactly `text`.
std::string regex_of_literal(std::string_view text);

}  // namespace llmtool
