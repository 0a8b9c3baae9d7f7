#include "llmtool/prompt/answer_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "llmtool/core/clock.h"
#include "llmtool/core/error.h"
#include "llmtool/io/files.h"
#include "llmtool/io/json.h"
#include "llmtool/io/json_text.h"

namespace llmtool {

namespace {
using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;
constexpr double kSyncSeconds = 5;

[[noreturn]] void fail(const fs::path& path, const char* what) {
  throw Error(cat(path.string(), ": ", what, ": ", std::strerror(errno)));
}

void append_cell(std::string& line, const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) {
    line += text;
    return;
  }
  line += '"';
  for (const char c : text) line.append(c == '"' ? 2 : 1, c);
  line += '"';
}

/// The cells of one whole record, as append_cell writes them.
std::vector<std::string> cells_of(const std::string& record) {
  std::vector<std::string> cells(1);
  bool quoted = false;
  for (size_t i = 0; i + 1 < record.size(); ++i) {  // without its line break
    const char c = record[i];
    if (c == '"') {
      if (quoted && record[i + 1] == '"') {
        cells.back() += c;
        ++i;
      } else {
        quoted = !quoted;
      }
    } else if (c == ',' && !quoted) {
      cells.emplace_back();
    } else {
      cells.back() += c;
    }
  }
  return cells;
}
}  // namespace

AnswerFile::AnswerFile(fs::path path, const Json& settings, bool overwrite)
    : path_(std::move(path)), csv_(path_.extension() == ".csv") {
  const bool is_new = !fs::exists(path_);
  fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd_ < 0) fail(path_, "cannot be opened");
  try {
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0)
      throw Error(cat(path_.string(), ": is in use: another run writes to it"));
    struct stat status {};
    if (::fstat(fd_, &status) != 0) fail(path_, "cannot be read");
    if (!S_ISREG(status.st_mode))
      throw UsageError(cat(path_.string(), ": expected a file, found something else"));
    begun_ = !overwrite && status.st_size > 0;
    if (begun_) {
      compare(settings, settings_file());
      index();
    } else {
      if (is_new) unused_ = {path_};
      settings_ = settings.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
    }
  } catch (...) {
    ::close(fd_);
    throw;
  }
  synced_ = now();
}

AnswerFile::~AnswerFile() {
  std::error_code ignored;
  for (const fs::path& file : unused_) fs::remove(file, ignored);  // while others are kept out
  ::close(fd_);
}

void AnswerFile::begin() {
  if (begun_) return;
  if (::ftruncate(fd_, 0) != 0) fail(path_, "cannot be emptied");
  unused_.push_back(settings_file());
  write_file(settings_file(), settings_);
  begun_ = true;
}

void AnswerFile::compare(const Json& settings, const fs::path& file) const {
  const std::string way_out = "; --overwrite begins anew, another --output keeps both";
  if (!fs::exists(file))
    throw UsageError(cat(path_.string(), ": is there already, but not ", file.filename().string(),
                         ", which says what made it", way_out));
  const Json before = parse_ordered_json(read_file(file), file.string());
  for (const auto& [key, value] : settings.items()) {
    const Json found = before.value(key, Json());
    if (found != value)
      throw UsageError(cat(path_.string(), ": was made with other settings: ", key, ": was ",
                           shown(nlohmann::json(found)), ", is ", shown(nlohmann::json(value)), way_out));
  }
}

void AnswerFile::index() {
  const MappedFile file(path_);
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  bool quoted = false;
  std::vector<size_t> ends;
  for (size_t i = 0; i < text.size(); ++i) {
    quoted = quoted != (csv_ && text[i] == '"');
    if (text[i] == '\n' && !quoted) ends.push_back(i + 1);
  }
  if (csv_ && !ends.empty()) {
    heading_ = ends[0];
    columns_ = cells_of(std::string(text.substr(0, heading_)));
    ends.erase(ends.begin());
  }
  ends_ = std::move(ends);
  truncate(rows());
}

void AnswerFile::truncate(int64_t n) {
  ends_.resize(static_cast<size_t>(n));
  size_ = ends_.empty() ? heading_ : ends_.back();
  if (begun_ && ::ftruncate(fd_, static_cast<off_t>(size_)) != 0) fail(path_, "cannot be shortened");
}

std::string AnswerFile::read(size_t from, size_t to) const {
  std::string text(to - from, '\0');
  for (size_t done = 0; done < text.size();) {
    const ssize_t n = ::pread(fd_, text.data() + done, text.size() - done, static_cast<off_t>(from + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail(path_, "cannot be read");
    done += static_cast<size_t>(n);
  }
  return text;
}

Json AnswerFile::row(int64_t i) const {
  const auto at = static_cast<size_t>(i);
  const std::string text = read(at == 0 ? heading_ : ends_[at - 1], ends_[at]);
  const std::string origin = cat(path_.string(), ": row ", i + 1);
  if (!csv_) {
    Json row = parse_ordered_json(text, origin);
    if (!row.is_object())
      throw Error(cat(origin, ": expected an object, found ", shown(nlohmann::json(row))));
    return row;
  }
  const std::vector<std::string> cells = cells_of(text);
  if (cells.size() != columns_.size())
    throw Error(cat(origin, ": expected ", columns_.size(), " cells, found ", cells.size()));
  Json row = Json::object();
  for (size_t c = 0; c < cells.size(); ++c) row[columns_[c]] = cells[c];
  return row;
}

std::string AnswerFile::line_of(const Json& row) {
  if (!csv_) return json_line(row) + "\n";
  std::string line;
  if (columns_.empty()) {
    for (const auto& [name, value] : row.items()) {
      if (!columns_.empty()) line += ',';
      append_cell(line, name);
      columns_.push_back(name);
    }
    line += '\n';
    heading_ = line.size();
  }
  size_t known = 0;
  for (size_t c = 0; c < columns_.size(); ++c) {
    if (c > 0) line += ',';
    const auto found = row.find(columns_[c]);
    if (found == row.end()) continue;
    append_cell(line, plain_text(*found));
    ++known;
  }
  if (known < row.size()) {
    for (const auto& [name, value] : row.items()) {
      if (std::find(columns_.begin(), columns_.end(), name) == columns_.end())
        throw Error(cat(path_.string(), ": row ", rows() + 1, " has a column ", name,
                        " that the heading does not have; .jsonl takes rows of any columns"));
    }
  }
  return line += '\n';
}

void AnswerFile::append(const Json& row) {
  begin();
  const std::string line = line_of(row);
  for (size_t done = 0; done < line.size();) {
    const ssize_t n = ::pwrite(fd_, line.data() + done, line.size() - done, static_cast<off_t>(size_ + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const int reason = errno;
      if (size_ == 0) columns_.clear(), heading_ = 0;
      truncate(rows());
      errno = reason;
      fail(path_, "cannot be written");
    }
    done += static_cast<size_t>(n);
  }
  size_ += line.size();
  ends_.push_back(size_);
  unused_.clear();
  if (now() - synced_ > kSyncSeconds) sync();
}

void AnswerFile::sync() {
  begin();
  if (::fsync(fd_) != 0) fail(path_, "cannot be synchronised");
  unused_.clear();
  synced_ = now();
}

}  // namespace llmtool
