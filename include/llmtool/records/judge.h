#pragma once
// Judge: right or wrong by a rule.

#include <optional>
#include <string>

#include "llmtool/records/record_store.h"
#include "llmtool/text/regex.h"

namespace llmtool {

struct JudgeRule {
  enum class Kind { exact, regex, json_equal };
  Kind kind = Kind::exact;
  std::string pattern;       // of regex: PCRE2's, which the whole response must match
  bool keeps_space = false;  // exact and regex: white space around a text counts
};

class Judge {
 public:
  explicit Judge(const JudgeRule& rule);  // throws UsageError on a pattern that is none

  enum class Outcome { right, wrong, no_expected, expected_not_json };
  /// JSON is equal whatever the order of its keys and its spaces, 1 and 1.0 alike, numbers by all their
  /// digits; a response that is none is wrong.
  Outcome judge(const Record& record) const;
  std::string name() const;  // "exact", "regex ^\\d+", "json-equal": what a record keeps

 private:
  JudgeRule rule_;
  std::optional<Regex> regex_;
};

}  // namespace llmtool
