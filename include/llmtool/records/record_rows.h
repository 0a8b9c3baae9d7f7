#pragma once
// Records as rows of JSON: whole, from tables of answers, and as examples to train on.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "llmtool/records/record_store.h"

namespace llmtool {

/// Every field of the record, null where there is none: id, time, template, template_version, template_text,
/// input, prompt, response, sample, model, model_hash, settings, settings_hash, tokens, finish_reason,
/// complete, expected, verdict, judged_by, judged_at.
nlohmann::ordered_json row_of_record(const Record& record);

/// Which columns of a table of answers are what; "": the usual names.
struct AnswerColumns {
  std::string prompt;    // prompt
  std::string response;  // response, choice or text
  std::string expected;  // expected
};

/// The record of a row that row_of_record() made, or of a row of a table of answers as `generate` writes
/// them: what it says of the answer is no part of the input, all other columns are. Throws Error, opening
/// with `origin`.
Record record_of_row(const nlohmann::ordered_json& row, const AnswerColumns& columns,
                     const std::string& origin);

/// False of a row in which `generate` has an error in place of an answer.
bool has_answer(const nlohmann::ordered_json& row);

/// So many examples are said to be wanted before fine-tuning beats a prompt.
inline constexpr int64_t kRecommendedExamples = 1000;

/// Examples to train on, each once: {"prompt", "completion"} of a record with an expected answer, or with one
/// that was judged right; or {"prompt", "chosen", "rejected"} of one that was judged wrong and has an
/// expected answer, which is chosen. An expected answer without white space in front gets the response's.
class ExampleRows {
 public:
  enum class Kind { finetune, preferences };
  explicit ExampleRows(Kind kind) : kind_(kind) {}

  std::optional<nlohmann::ordered_json> row(const Record& record);

  struct Counts {
    int64_t examples = 0;
    int64_t duplicates = 0;      // the same but for spaces
    int64_t unusable = 0;        // without an answer that is known to be good, or with nothing to reject
    int64_t empty = 0;           // without a prompt or a completion
    int64_t contradictions = 0;  // prompts that have several completions
  };
  const Counts& counts() const { return counts_; }

 private:
  Kind kind_;
  Counts counts_;
  std::unordered_set<std::string> seen_;
  std::unordered_map<std::string, std::string> completions_;  // by prompt
  std::unordered_set<std::string> contradicted_;
};

}  // namespace llmtool
