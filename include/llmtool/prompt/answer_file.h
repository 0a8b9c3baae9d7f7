#pragma once
// AnswerFile: a table of answers that survives being killed.

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace llmtool {

/// A table that grows row by row, JSONL or, by the name's end, CSV (RFC 4180; the columns are those of the
/// first row). Beside it FILE.run.json says with which settings it is made; a run with the same settings goes
/// on where the last one stopped. One process at a time.
class AnswerFile {
 public:
  using Json = nlohmann::ordered_json;

  /// Opens the file, or creates it; a torn last row is cut off. Throws Error where it is in use, cannot be
  /// written or is no such table, UsageError where it holds rows of other settings (the first difference is
  /// named) and `overwrite` is not set. With it, what is there stays until begin(); a file that is new and
  /// gets neither a row nor a sync() goes again.
  AnswerFile(std::filesystem::path path, const Json& settings, bool overwrite);
  ~AnswerFile();
  AnswerFile(const AnswerFile&) = delete;
  AnswerFile& operator=(const AnswerFile&) = delete;

  int64_t rows() const { return static_cast<int64_t>(ends_.size()); }
  /// Row i as it stands there: an object; cells of a CSV file are strings.
  Json row(int64_t i) const;
  /// Forgets what `overwrite` gives up, and says with which settings this is made; a first row or sync() does
  /// so, too.
  void begin();
  /// Forgets the rows behind the first n.
  void truncate(int64_t n);
  /// One row more, or none: a row that does not fit the disk is taken back. Every few seconds, and with
  /// sync(), what was written is on the disk. Throws Error.
  void append(const Json& row);
  void sync();

 private:
  std::filesystem::path settings_file() const { return path_.string() + ".run.json"; }
  void index();
  void compare(const Json& settings, const std::filesystem::path& file) const;
  std::string line_of(const Json& row);
  std::string read(size_t from, size_t to) const;

  std::filesystem::path path_;
  int fd_ = -1;
  std::vector<std::filesystem::path> unused_;  // made here, and gone again unless something is written
  std::string settings_;                       // to be written by begin()
  bool begun_ = false;
  bool csv_ = false;
  size_t size_ = 0;                   // bytes
  size_t heading_ = 0;                // bytes of a CSV file's first record
  std::vector<size_t> ends_;          // of each row, in bytes
  std::vector<std::string> columns_;  // of a CSV file
  double synced_ = 0;
};

}  // namespace llmtool
