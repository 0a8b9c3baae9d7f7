#include "llmtool/data/rows.h"

#include "data/byte_source.h"
#include "data/row_reader.h"
#include "llmtool/core/error.h"

namespace llmtool {

void for_each_row(const std::string& path, const std::string& format,
                  const std::function<void(nlohmann::ordered_json&& row, const std::string& origin)>& sink) {
  const std::string name = path == "-" ? "standard input" : path;
  read_rows(*open_bytes(path), path, {format, {}}, [&](RawRow&& raw) {
    const std::string origin = cat(name, ": row ", raw.number);
    sink(parse_row(raw, origin), origin);
  });
}

}  // namespace llmtool
