#pragma once
// CsvReader: the records of a CSV or TSV file (RFC 4180).

#include <string>
#include <vector>

#include "data/line_source.h"

namespace llmtool {

/// A cell that begins with a quote ends at the next one that stands alone; "" within is a quote, and line
/// breaks and separators are its text. Other cells are taken as they are.
class CsvReader {
 public:
  CsvReader(ByteSource& source, std::string origin, char separator)
      : lines_(source, origin), origin_(std::move(origin)), separator_(separator) {}

  /// The next record that is no blank line; false at the end. Throws Error naming file and row on a cell
  /// that is not closed, text behind a closing quote, or bytes that are not UTF-8.
  bool next(std::vector<std::string>& cells);
  int64_t number() const { return number_; }  // of that record, from 1

 private:
  enum class Place { start, plain, quoted, closed };
  Place take(char c, Place place, std::vector<std::string>& cells);
  std::string where() const;

  LineSource lines_;
  std::string origin_;
  char separator_;
  int64_t number_ = 0;
};

}  // namespace llmtool
