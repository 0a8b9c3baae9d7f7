#include "data/row_reader.h"

#include <algorithm>

#include "data/csv_reader.h"
#include "data/input_files.h"
#include "llmtool/core/error.h"
#include "llmtool/io/json.h"

namespace llmtool {

namespace {
using Json = nlohmann::ordered_json;
using Sink = std::function<void(RawRow&&)>;
constexpr size_t kLargestJson = size_t{2} << 30;
constexpr const char* kSpace = " \t\r\n";

/// "jsonl", "json", "csv", "tsv"; "" where the name does not say.
std::string format_of_name(const std::string& path) {
  const std::string name = unpacked_name(path);
  if (name.ends_with(".jsonl") || name.ends_with(".ndjson")) return "jsonl";
  for (const char* kind : {"json", "csv", "tsv"}) {
    if (name.ends_with(std::string(".") + kind)) return kind;
  }
  return "";
}

/// Cuts JSON into values without reading them: parse_row() does that, and finds what is wrong in them.
class JsonCutter {
 public:
  JsonCutter(std::string_view text, const std::string& origin) : text_(text), origin_(origin) { skip(); }

  bool at_end() const { return at_ >= text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[at_]; }
  void step() {
    ++at_;
    skip();
  }
  std::string_view value() {
    const size_t from = at_;
    int64_t depth = 0;
    for (bool quoted = false; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (quoted) {
        if (c == '\\') ++at_;
        quoted = c != '"';
        continue;
      }
      if (c == '"') quoted = true;
      if (depth == 0 && at_ > from && (c == ',' || c == ']' || c == '}')) break;
      if (c == '[' || c == '{') ++depth;
      if ((c == ']' || c == '}') && --depth <= 0) {
        ++at_;
        break;
      }
    }
    at_ = std::min(at_, text_.size());
    const std::string_view found = text_.substr(from, at_ - from);
    skip();
    return found;
  }
  void expect(bool good, const char* what, int64_t row) const {
    if (!good) throw Error(cat(origin_, ": behind row ", row, ": expected ", what));
  }

 private:
  void skip() { at_ = std::min(text_.find_first_not_of(kSpace, at_), text_.size()); }
  std::string_view text_;
  const std::string& origin_;
  size_t at_ = 0;
};

void give(std::string_view json, int64_t number, const Sink& sink) {
  RawRow row;
  row.json = json;
  row.number = number;
  sink(std::move(row));
}

void cut_list(JsonCutter& json, const Sink& sink) {
  json.step();
  int64_t number = 0;
  while (json.peek() != ']') {
    json.expect(!json.at_end(), "] at the end of the list; is the file cut off?", number);
    give(json.value(), ++number, sink);
    if (json.peek() == ']') break;
    json.expect(json.peek() == ',', "a comma or ]", number);
    json.step();
  }
  json.step();
  json.expect(json.at_end(), "nothing behind the list", number);
}

/// The list of rows in an object such as {"version": 1, "data": [...]}; null where it is a row itself.
const Json* list_within(const Json& object) {
  static constexpr std::string_view kOfRows[] = {"messages", "conversations", "prompt", "completion",
                                                 "history",  "tools",         "chosen", "rejected"};
  const Json* found = nullptr;
  if (!object.is_object()) return found;
  for (const auto& [key, value] : object.items()) {
    if (!value.is_array() || value.empty() || !value[0].is_object()) continue;
    if (found || std::find(std::begin(kOfRows), std::end(kOfRows), key) != std::end(kOfRows)) return nullptr;
    found = &value;
  }
  return found;
}

void read_json_rows(ByteSource& source, const std::string& path, const Sink& sink) {
  const std::string text = read_all(source, path, kLargestJson);
  JsonCutter json(text, path);
  if (json.peek() == '[') return cut_list(json, sink);
  if (json.peek() != '{') throw Error(path + ": expected a list of rows or an object");
  const std::string_view first = json.value();
  if (json.at_end()) {
    const Json object = parse_ordered_json(first, path);
    const Json* list = list_within(object);
    if (!list) return give(first, 1, sink);
    for (size_t i = 0; i < list->size(); ++i) give((*list)[i].dump(), static_cast<int64_t>(i) + 1, sink);
    return;
  }
  give(first, 1, sink);
  for (int64_t number = 1; !json.at_end();) {
    json.expect(json.peek() == '{', "another row, in braces", number);
    give(json.value(), ++number, sink);
  }
}

void read_lines(ByteSource& source, const std::string& path, const Sink& sink) {
  LineSource lines(source, path);
  int64_t number = 0;
  for (std::string line; lines.next(line);) {
    ++number;
    if (line.find_first_not_of(kSpace) != std::string::npos) give(line, number, sink);
  }
}

std::vector<std::string> heading(CsvReader& csv, const std::string& path) {
  std::vector<std::string> names;
  if (!csv.next(names)) throw Error(path + ": expected a heading with the columns' names, found nothing");
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i].empty() && names.size() > 1 && i == 0)
      names[i] = "index";  // as a table's own numbers are written
    if (names[i].empty()) throw Error(cat(path, ": the heading's column ", i + 1, " has no name"));
    if (std::find(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(i), names[i]) !=
        names.begin() + static_cast<std::ptrdiff_t>(i))
      throw Error(cat(path, ": the heading has two columns \"", names[i],
                      "\"; where the file has no heading, data.columns gives the names"));
  }
  return names;
}

void read_table(ByteSource& source, const std::string& path, char separator, const RowFormat& format,
                const Sink& sink) {
  CsvReader csv(source, path, separator);
  const auto columns = std::make_shared<const std::vector<std::string>>(
      format.columns.empty() ? heading(csv, path) : format.columns);
  for (RawRow row; csv.next(row.cells); row = RawRow()) {
    row.number = csv.number();
    if (row.cells.size() != columns->size())
      throw Error(cat(path, ": row ", row.number, ": expected ", columns->size(), " cells, found ",
                      row.cells.size()));
    row.columns = columns;
    sink(std::move(row));
  }
}
}  // namespace

size_t RawRow::bytes() const {
  size_t total = sizeof(RawRow) + json.size();
  for (const std::string& cell : cells) total += sizeof cell + cell.size();
  return total;
}

bool has_rows(const std::string& path) { return !format_of_name(path).empty(); }

void read_rows(ByteSource& source, const std::string& path, const RowFormat& format, const Sink& sink) {
  const std::string kind = format.input_format != "auto" ? format.input_format
                           : path == "-"                 ? "jsonl"
                                                         : format_of_name(path);
  if (kind == "jsonl") return read_lines(source, path, sink);
  if (kind == "json") return read_json_rows(source, path, sink);
  if (kind == "csv" || kind == "tsv")
    return read_table(source, path, kind == "csv" ? ',' : '\t', format, sink);
  throw UsageError(cat(path,
                       ": expected a name that ends in .jsonl, .json, .csv or .tsv (also .gz, .zst), or ",
                       "data.input_format to say what it is"));
}

Json parse_row(const RawRow& row, const std::string& origin) {
  if (!row.columns) {
    Json value = parse_ordered_json(row.json, origin);
    if (!value.is_object())
      throw Error(cat(origin, ": expected an object, found ", shown(nlohmann::json(value))));
    return value;
  }
  Json value = Json::object();
  for (size_t i = 0; i < row.cells.size(); ++i) value[(*row.columns)[i]] = row.cells[i];
  return value;
}

}  // namespace llmtool
