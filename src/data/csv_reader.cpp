#include "data/csv_reader.h"

#include "llmtool/core/error.h"
#include "text/utf8.h"

namespace llmtool {

namespace {
constexpr size_t kMostCells = 10000;
constexpr size_t kLongestRecord = size_t{1} << 30;
}  // namespace

std::string CsvReader::where() const { return cat(origin_, ": row ", number_); }

CsvReader::Place CsvReader::take(char c, Place place, std::vector<std::string>& cells) {
  if (place == Place::quoted) {
    if (c == '"') return Place::closed;
    cells.back() += c;
    return place;
  }
  if (c == separator_) {
    if (cells.size() == kMostCells) throw Error(cat(where(), ": more than ", kMostCells, " cells"));
    cells.emplace_back();
    return Place::start;
  }
  if (place == Place::start && c == '"') return Place::quoted;
  if (place == Place::closed && c != '"')
    throw Error(cat(where(), ", cell ", cells.size(),
                    ": text behind the closing quote; a quote within a quoted cell is written twice"));
  cells.back() += c;
  return place == Place::closed ? Place::quoted : Place::plain;
}

bool CsvReader::next(std::vector<std::string>& cells) {
  cells.assign(1, "");
  Place place = Place::start;
  size_t bytes = 0;
  bool begun = false;
  for (std::string line; lines_.next(line); line.clear()) {
    if (!begun && (line.empty() || line == "\r")) continue;
    if (!begun) ++number_;
    begun = true;
    if (utf8_valid_length(line) != line.size()) throw Error(where() + ": a byte that is not UTF-8");
    if ((bytes += line.size()) > kLongestRecord)
      throw Error(cat(where(), ": longer than ", kLongestRecord, " bytes"));
    for (size_t i = 0; i < line.size(); ++i) {
      const bool line_break = line[i] == '\r' && i + 1 == line.size();
      if (line_break && place != Place::quoted) break;
      place = take(line[i], place, cells);
    }
    if (place != Place::quoted) return true;
    cells.back() += '\n';
  }
  if (begun) throw Error(where() + ": a cell's quote is never closed");
  return false;
}

}  // namespace llmtool
