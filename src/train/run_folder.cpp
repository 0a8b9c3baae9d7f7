#include "llmtool/train/run_folder.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/io/json.h"

namespace llmtool {

namespace fs = std::filesystem;

namespace {
const fs::path& created(const fs::path& path) {
  std::error_code code;
  fs::create_directories(path, code);
  if (code) throw Error(cat(path.string(), ": cannot be created: ", code.message()));
  return path;
}

std::optional<int64_t> step_of(const std::string& name) {
  constexpr std::string_view kPrefix = "step-";
  if (!name.starts_with(kPrefix)) return {};
  int64_t step = 0;
  const char* const end = name.data() + name.size();
  const auto [stop, code] = std::from_chars(name.data() + kPrefix.size(), end, step);
  return code == std::errc() && stop == end && step >= 0 ? std::optional(step) : std::nullopt;
}

void sync_path(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const bool done = fd >= 0 && ::fsync(fd) == 0;
  const int reason = errno;
  if (fd >= 0) ::close(fd);
  if (!done) throw Error(cat(path.string(), ": cannot be synchronised: ", std::strerror(reason)));
}

/// fsync of every file and folder below.
void sync_tree(const fs::path& folder) {
  for (const auto& entry : fs::recursive_directory_iterator(folder)) sync_path(entry.path());
  sync_folder(folder);
}

/// Renames `fresh` to `target`. What stood there is set aside until the new one is in its place, so that one
/// of the two is whole at every moment; recover() finishes what was cut short.
void replace(const fs::path& fresh, const fs::path& target) {
  const fs::path aside = target.string() + ".old";
  if (fs::exists(target)) fs::rename(target, aside);
  fs::rename(fresh, target);
  sync_folder(target.parent_path());
  fs::remove_all(aside);
}
}  // namespace

RunFolder::RunFolder(const fs::path& path) : path_(path) {
  if (path_.empty()) return;
  lock_.emplace(created(path_));
  recover();
}

void RunFolder::recover() {
  std::vector<fs::path> places;
  if (!fs::exists(path_ / "checkpoints")) return;
  for (const auto& entry : fs::directory_iterator(path_ / "checkpoints")) places.push_back(entry.path());
  for (const fs::path& place : places) {
    fs::path target = place;
    target.replace_extension();
    if (!step_of(target.filename().string())) continue;
    if (place.extension() == ".old" && !fs::exists(target))
      fs::rename(place, target);
    else if (place.extension() == ".old" || place.extension() == ".tmp")
      fs::remove_all(place);
  }
}

fs::path RunFolder::save_checkpoint(int64_t step, int64_t keep,
                                    const std::function<void(const fs::path&)>& write) {
  const fs::path parent = path_ / "checkpoints", target = parent / cat("step-", step);
  const fs::path temporary = target.string() + ".tmp";
  try {
    fs::remove_all(temporary);
    if (fs::create_directories(temporary)) sync_folder(path_);  // where checkpoints/ may be new
    write(temporary);
    write_manifest(temporary);
    sync_tree(temporary);
    if (fs::exists(path_ / "metrics.jsonl")) sync_path(path_ / "metrics.jsonl");  // its rows up to this step
    replace(temporary, target);
  } catch (const std::exception& e) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    try {
      recover();
    } catch (const fs::filesystem_error&) {
      // The next run tries again; the reason of this failure is the one to tell.
    }
    throw Error(
        cat("checkpoint of step ", step, " not saved: ", e.what(), "; the earlier ones are untouched"));
  }
  prune(step, keep);
  return target;
}

void RunFolder::prune(int64_t saved, int64_t keep) {
  damaged_.erase(saved);
  int64_t whole = 0;
  for (const Checkpoint& checkpoint : checkpoints()) {
    const bool damaged = damaged_.contains(checkpoint.step);
    if (!damaged && ++whole <= std::max<int64_t>(2, keep)) continue;
    std::error_code code;
    fs::remove_all(checkpoint.path, code);
    if (code) warn(cat(checkpoint.path.string(), ": cannot be removed: ", code.message()));
  }
}

std::vector<RunFolder::Checkpoint> RunFolder::checkpoints() const {
  std::vector<Checkpoint> all;
  if (path_.empty() || !fs::exists(path_ / "checkpoints")) return all;
  for (const auto& entry : fs::directory_iterator(path_ / "checkpoints")) {
    if (const auto step = step_of(entry.path().filename().string())) all.push_back({*step, entry.path()});
  }
  std::sort(all.begin(), all.end(), [](const Checkpoint& a, const Checkpoint& b) { return a.step > b.step; });
  return all;
}

std::optional<RunFolder::Checkpoint> RunFolder::latest_checkpoint() {
  for (const Checkpoint& checkpoint : checkpoints()) {
    const std::string problem = verify_manifest(checkpoint.path);
    if (problem.empty()) return checkpoint;
    damaged_.insert(checkpoint.step);
    warn(cat(checkpoint.path.string(), " is not whole (", problem, "); falling back to the one before"));
  }
  return {};
}

void RunFolder::append_metrics(const nlohmann::ordered_json& row) {
  const fs::path file = path_ / "metrics.jsonl";
  const std::string line = row.dump() + "\n";
  const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd < 0) throw Error(cat(file.string(), ": cannot be written: ", std::strerror(errno)));
  const off_t before = ::lseek(fd, 0, SEEK_END);
  const ssize_t written = ::write(fd, line.data(), line.size());
  const bool done = written == static_cast<ssize_t>(line.size());
  const int reason = written < 0 ? errno : ENOSPC;  // a disk that fills up takes a part first
  const bool undone = done || ::ftruncate(fd, before) == 0;
  ::close(fd);
  if (!done) {
    throw Error(cat(file.string(), ": cannot be written: ", std::strerror(reason),
                    undone ? "" : "; its last row is torn"));
  }
}

std::vector<RunFolder::Row> RunFolder::rows() const {
  std::vector<Row> rows;
  const fs::path file = path_ / "metrics.jsonl";
  if (!fs::exists(file)) return rows;
  const std::string text = read_file(file, size_t{1} << 32);
  for (size_t from = 0, end; (end = text.find('\n', from)) != std::string::npos; from = end + 1) {
    std::string line = text.substr(from, end - from);
    try {
      nlohmann::json json = parse_json(line, file.string());
      if (json.is_object()) rows.push_back({std::move(line), std::move(json)});
    } catch (const Error&) {
      continue;  // a torn row
    }
  }
  return rows;
}

std::vector<nlohmann::json> RunFolder::metrics() const {
  std::vector<nlohmann::json> all;
  for (Row& row : rows()) all.push_back(std::move(row.json));
  return all;
}

void RunFolder::rewind_metrics(int64_t step) {
  std::string kept;
  for (const Row& row : rows()) {
    const auto at = row.json.find("step");
    if (step >= 0 && at != row.json.end() && exact_integer(*at, 0, step)) kept += row.line + "\n";
  }
  write_file(path_ / "metrics.jsonl", kept);
}

}  // namespace llmtool
