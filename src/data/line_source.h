#pragma once
// LineSource: the lines of a packed or plain file.

#include <string>

#include "data/byte_source.h"

namespace llmtool {

class LineSource {
 public:
  /// `origin` opens the messages.
  LineSource(ByteSource& source, std::string origin) : source_(source), origin_(std::move(origin)) {}

  /// The next line without its "\n", and without a byte order mark at the file's start; false at the end.
  /// Throws Error where a line is longer than 1 GB.
  bool next(std::string& line);

 private:
  ByteSource& source_;
  std::string origin_, buffer_;
  size_t from_ = 0;
  int64_t lines_ = 0;
  bool ended_ = false;
};

/// All bytes, without a byte order mark. Throws Error where they are more than `most`.
std::string read_all(ByteSource& source, const std::string& origin, size_t most);

}  // namespace llmtool
