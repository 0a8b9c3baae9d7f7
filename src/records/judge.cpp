#include "llmtool/records/judge.h"

#include "grammar/canonical_json.h"
#include "llmtool/core/error.h"
#include "llmtool/io/json.h"

namespace llmtool {

namespace {
std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n\v\f";
  const size_t from = text.find_first_not_of(kSpace);
  return from == std::string_view::npos ? "" : text.substr(from, text.find_last_not_of(kSpace) + 1 - from);
}

/// The same of JSON and of what is none, with numbers that a double holds: each run of digits has its first
/// two alone.
std::string with_short_numbers(std::string_view text) {
  std::string result;
  bool quoted = false;
  size_t digits = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    digits = !quoted && c >= '0' && c <= '9' ? digits + 1 : 0;
    if (digits > 2) continue;
    result += c;
    if (c == '"') quoted = !quoted;
    if (quoted && c == '\\' && i + 1 < text.size()) result += text[++i];
  }
  return result;
}

/// One text for equal values: numbers by all their digits, which a double would round; nothing where the text
/// is no JSON.
std::optional<std::string> canonical(std::string_view text) {
  if (constexpr std::string_view kMark = "\xEF\xBB\xBF"; text.starts_with(kMark))
    text.remove_prefix(kMark.size());
  try {
    parse_json(with_short_numbers(text), "");
  } catch (const Error&) {
    return {};
  }
  return canonical_json(text);
}
}  // namespace

Judge::Judge(const JudgeRule& rule) : rule_(rule) {
  if (rule.kind != JudgeRule::Kind::regex) return;
  try {
    // By itself first, so that no bracket of it closes the one around it.
    Regex(rule.pattern, "--regex", Regex::Syntax::pcre);
    regex_.emplace(cat("\\A(?:", rule.pattern, ")\\z"), "--regex", Regex::Syntax::pcre);
  } catch (const Error& e) {
    throw UsageError(e.what());
  }
}

Judge::Outcome Judge::judge(const Record& record) const {
  const auto outcome = [](bool right) { return right ? Outcome::right : Outcome::wrong; };
  const auto text = [this](const std::string& t) {
    return rule_.keeps_space ? std::string_view(t) : trimmed(t);
  };
  if (rule_.kind == JudgeRule::Kind::regex) {
    bool matches = false;
    regex_->for_each(text(record.response), [&](size_t, size_t) { matches = true; });
    return outcome(matches);
  }
  if (!record.expected) return Outcome::no_expected;
  if (rule_.kind == JudgeRule::Kind::exact) return outcome(text(record.response) == text(*record.expected));
  const auto expected = canonical(*record.expected);
  if (!expected) return Outcome::expected_not_json;
  return outcome(canonical(record.response) == expected);
}

std::string Judge::name() const {
  switch (rule_.kind) {
    case JudgeRule::Kind::exact:
      return "exact";
    case JudgeRule::Kind::regex:
      return "regex " + rule_.pattern;
    default:
      return "json-equal";
  }
}

}  // namespace llmtool
