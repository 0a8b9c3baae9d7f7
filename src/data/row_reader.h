#pragma once
// The rows of JSON, JSONL, CSV and TSV files.

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/byte_source.h"

namespace llmtool {

/// A row as it stands in its file: cheap to cut out, so that it can be parsed on another thread.
struct RawRow {
  std::string json;                                         // the row's text, or
  std::shared_ptr<const std::vector<std::string>> columns;  // names, and
  std::vector<std::string> cells;                           // as many cells
  int64_t number = 0;                                       // in its file, from 1; a heading is one, too
  size_t bytes() const;                                     // about what it holds
};

struct RowFormat {
  std::string input_format = "auto";  // auto (by the file's name), jsonl, json, csv, tsv
  std::vector<std::string> columns;   // of CSV and TSV files without a heading
};

/// Whether the name is that of a file with rows.
bool has_rows(const std::string& path);

/// Calls sink for each row of `source`, whose name is `path`. JSON: a list of rows, an object with one list
/// of rows in it, a row, or rows one behind the other. CSV and TSV: RFC 4180. Throws Error naming file and
/// row.
void read_rows(ByteSource& source, const std::string& path, const RowFormat& format,
               const std::function<void(RawRow&&)>& sink);

/// The row as a JSON object; `origin` names it. Cells are strings. Throws Error.
nlohmann::ordered_json parse_row(const RawRow& row, const std::string& origin);

}  // namespace llmtool
