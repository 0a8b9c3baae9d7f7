#pragma once
// Comparison: two templates or two models on the same inputs, row by row.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "llmtool/records/record_store.h"

namespace llmtool {

/// An input that both answered, one of them right and one wrong.
struct DifferingRow {
  std::string input;              // as JSON; the prompt where no input is on record
  int64_t first = 0, second = 0;  // the records
  bool first_right = false;
};

struct Comparison {
  int64_t both = 0, only_first = 0, only_second = 0, neither = 0;  // inputs by who was right
  int64_t unjudged = 0;  // inputs that both answered, but one answer at least has no verdict
  int64_t unpaired_first = 0, unpaired_second = 0;  // inputs that one alone answered
  int64_t repeated = 0;  // answers for which there is a later one to the same input (a judged one, if any is)
  std::vector<DifferingRow> differing;  // by the first's number

  int64_t compared() const { return both + only_first + only_second + neither; }
  int64_t right_first() const { return both + only_first; }
  int64_t right_second() const { return both + only_second; }
};

/// Answers are joined by their input, whatever the order of its columns; by the prompt where there is none.
Comparison compare(const RecordStore& store, const RecordFilter& first, const RecordFilter& second);

}  // namespace llmtool
