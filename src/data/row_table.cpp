#include "llmtool/data/row_table.h"

#include <filesystem>

#include "data/row_reader.h"
#include "llmtool/core/error.h"

namespace llmtool {

struct RowTable::Rows {
  std::string path;
  std::vector<RawRow> list;
};

RowTable RowTable::open(const std::string& path, const std::string& input_format) {
  if (path != "-" && !std::filesystem::is_regular_file(path))
    throw UsageError(path + ": expected a file of rows, found none");
  auto rows = std::make_shared<Rows>();
  rows->path = path == "-" ? "standard input" : path;
  RowFormat format;
  format.input_format = input_format;
  const std::unique_ptr<ByteSource> bytes = open_bytes(path);
  read_rows(*bytes, path, format, [&](RawRow&& row) { rows->list.push_back(std::move(row)); });
  RowTable table;
  table.rows_ = std::move(rows);
  return table;
}

int64_t RowTable::size() const { return static_cast<int64_t>(rows_->list.size()); }

std::string RowTable::origin(int64_t i) const {
  return cat(rows_->path, ": row ", rows_->list[static_cast<size_t>(i)].number);
}

nlohmann::ordered_json RowTable::operator[](int64_t i) const {
  return parse_row(rows_->list[static_cast<size_t>(i)], origin(i));
}

}  // namespace llmtool
