#pragma once
// The rows of a table, one by one.

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

namespace llmtool {

/// Calls sink for each row of a JSONL, JSON, CSV or TSV file (also .gz, .zst), or of standard input ("-",
/// JSONL where `format` is "auto"); `origin` is "rows.jsonl: row 12". Cells of CSV and TSV are strings.
/// Throws Error naming file and row.
void for_each_row(const std::string& path, const std::string& format,
                  const std::function<void(nlohmann::ordered_json&& row, const std::string& origin)>& sink);

}  // namespace llmtool
