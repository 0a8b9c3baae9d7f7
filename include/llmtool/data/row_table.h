#pragma once
// RowTable: the rows of one file.

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

namespace llmtool {

/// All rows of a JSON, JSONL, CSV or TSV file (.gz and .zst unpacked; "-": JSONL from standard input), kept
/// as they stand there and parsed when asked for. Immutable.
class RowTable {
 public:
  /// `input_format`: auto (by the name), jsonl, json, csv or tsv. Throws UsageError where the file is not
  /// there or its name does not say what it is, Error naming file and row.
  static RowTable open(const std::string& path, const std::string& input_format = "auto");

  int64_t size() const;
  /// Row i as an object, in the file's order of columns; a table's cells are strings. Throws Error naming
  /// file and row.
  nlohmann::ordered_json operator[](int64_t i) const;
  std::string origin(int64_t i) const;  // "rows.csv: row 12"

 private:
  struct Rows;
  std::shared_ptr<const Rows> rows_;
};

}  // namespace llmtool
