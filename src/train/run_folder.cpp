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
  fs::create_directories(path / "checkpoints", code);
  if (code) throw Error(cat(path.string(), ": cannot be created: ", code.message()));
  return path;
}

std::optional<int64_t> step_of(const std::string& name) {
  constexpr std::string_view kPrefix = "step-";
  if (!name.starts_with(kPrefix)) return {};
  int64_t step = 0;
  const char* const end = name.data() + name.size();
  const auto [stop, code] = std::from_chars(name.data() + kPrefix.size(), end, step);
  return code == std::errc() && stop == end ? std::optional(step) : std::nullopt;
}

/// fsync of every file and folder below.
void sync_tree(const fs::path& folder) {
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const int fd = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
    const bool done = fd >= 0 && ::fsync(fd) == 0;
    const int reason = errno;
    if (fd >= 0) ::close(fd);
    if (!done) throw Error(cat(entry.path().string(), ": cannot be synchronised: ", std::strerror(reason)));
  }
  sync_folder(folder);
}
}  // namespace

RunFolder::RunFolder(const fs::path& path) : path_(created(path)), lock_(path_) {
  for (const auto& entry : fs::directory_iterator(path_ / "checkpoints")) {
    if (entry.path().extension() == ".tmp") fs::remove_all(entry.path());  // of a run that was killed while saving
  }
}

fs::path RunFolder::save_checkpoint(int64_t step, int64_t keep, const std::function<void(const fs::path&)>& write) {
  const fs::path parent = path_ / "checkpoints", target = parent / cat("step-", step);
  const fs::path temporary = target.string() + ".tmp";
  try {
    fs::remove_all(temporary);
    fs::create_directories(temporary);
    write(temporary);
    write_manifest(temporary);
    sync_tree(temporary);
    fs::remove_all(target);
    fs::rename(temporary, target);
    sync_folder(parent);
  } catch (const std::exception& e) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    throw Error(cat("checkpoint of step ", step, " not saved: ", e.what(), "; the earlier ones are untouched"));
  }
  const std::vector<Checkpoint> all = checkpoints();
  for (size_t i = static_cast<size_t>(std::max<int64_t>(2, keep)); i < all.size(); ++i) fs::remove_all(all[i].path);
  return target;
}

std::vector<RunFolder::Checkpoint> RunFolder::checkpoints() const {
  std::vector<Checkpoint> all;
  for (const auto& entry : fs::directory_iterator(path_ / "checkpoints")) {
    if (const auto step = step_of(entry.path().filename().string())) all.push_back({*step, entry.path()});
  }
  std::sort(all.begin(), all.end(), [](const Checkpoint& a, const Checkpoint& b) { return a.step > b.step; });
  return all;
}

std::optional<RunFolder::Checkpoint> RunFolder::latest_checkpoint() const {
  for (const Checkpoint& checkpoint : checkpoints()) {
    const std::string problem = verify_manifest(checkpoint.path);
    if (problem.empty()) return checkpoint;
    warn(cat(checkpoint.path.string(), " is not whole (", problem, "); falling back to the one before"));
  }
  return {};
}

void RunFolder::append_metrics(const nlohmann::ordered_json& row) {
  const fs::path file = path_ / "metrics.jsonl";
  const std::string line = row.dump() + "\n";
  const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  const bool done = fd >= 0 && ::write(fd, line.data(), line.size()) == static_cast<ssize_t>(line.size());
  const int reason = errno;
  if (fd >= 0) ::close(fd);
  if (!done) throw Error(cat(file.string(), ": cannot be written: ", std::strerror(reason)));
}

std::vector<nlohmann::json> RunFolder::metrics() const {
  std::vector<nlohmann::json> rows;
  const fs::path file = path_ / "metrics.jsonl";
  if (!fs::exists(file)) return rows;
  const std::string text = read_file(file, size_t{1} << 32);
  for (size_t from = 0, end; (end = text.find('\n', from)) != std::string::npos; from = end + 1) {
    try {
      rows.push_back(parse_json(std::string_view(text).substr(from, end - from), file.string()));
    } catch (const Error&) {
      continue;  // a torn row
    }
  }
  return rows;
}

void RunFolder::rewind_metrics(int64_t step) {
  std::string kept;
  for (const nlohmann::json& row : metrics()) {
    if (JsonObject(row, "metrics.jsonl").integer("step", 0, int64_t{1} << 53, 0) <= step) kept += row.dump() + "\n";
  }
  write_file(path_ / "metrics.jsonl", kept);
}

}  // namespace llmtool
