#pragma once
// The linter of fine-tuning data: what would ruin a training run is found before its first step.

#include <cstdint>
#include <string>
#include <vector>

#include "llmtool/data/examples.h"

namespace llmtool {

struct LintFinding {
  std::string kind;     // "truncated": the name with which it is accepted
  std::string meaning;  // what it is, and what it would do
  bool acceptable = true;
  int64_t count = 0;
  struct Row {
    std::string origin, excerpt;
  };
  std::vector<Row> rows;  // the first of them
};

struct LintReport {
  std::vector<LintFinding> findings;  // of which there is at least one row each
  LengthStatistics train, validation;

  /// Lengths and findings, for people.
  std::string text() const;
  /// Throws Error where something was found whose kind is not in `allowed`; UsageError where a name of
  /// `allowed` is no kind.
  void require(const std::vector<std::string>& allowed) const;
};

/// The kinds of findings that can be accepted.
const std::vector<std::string>& lint_kinds();

/// Looks at everything that is trained on, and for training rows in the validation set. `vocabulary`: rows of
/// the model's embedding.
LintReport lint(const Tokenizer& tokenizer, const Examples& examples, int64_t vocabulary);

/// "min 12, 25% 30, ...": the quantiles of the lengths.
std::string describe_lengths(const LengthStatistics& statistics);

}  // namespace llmtool
