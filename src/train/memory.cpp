#include "llmtool/train/memory.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>

#include "llmtool/core/error.h"
#include "llmtool/core/log.h"

namespace llmtool {

namespace {
namespace fs = std::filesystem;

/// The kB of a line "NAME:  123 kB" of a file under /proc, in bytes.
std::optional<size_t> proc_value(const char* file, const std::string& name) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(name + ":")) continue;
    std::istringstream fields(line.substr(name.size() + 1));
    size_t kilobytes = 0;
    if (fields >> kilobytes) return kilobytes * 1024;
  }
  return {};
}

std::optional<size_t> number_in(const fs::path& file) {
  std::ifstream in(file);
  size_t value = 0;
  return in >> value ? std::optional(value) : std::nullopt;
}

/// A row "NAME 123" of a memory.stat, 0 where there is none.
size_t stat_value(const fs::path& file, const std::string& name) {
  std::ifstream in(file);
  std::string key;
  size_t value = 0;
  while (in >> key >> value) {
    if (key == name) return value;
  }
  return 0;
}

/// The least that is left on the way from a cgroup up to `root`. Pages of files that are only cached count as
/// free: the kernel gives them up first.
size_t left_in_hierarchy(const fs::path& root, const fs::path& group, const char* limit_file,
                         const char* used_file, const std::string& stat_prefix) {
  size_t left = std::numeric_limits<size_t>::max();
  for (fs::path at = root / group.relative_path();; at = at.parent_path()) {
    const auto limit = number_in(at / limit_file), used = number_in(at / used_file);
    if (limit && used) {
      const size_t cached = stat_value(at / "memory.stat", stat_prefix + "active_file") +
                            stat_value(at / "memory.stat", stat_prefix + "inactive_file");
      const size_t held = *used - std::min(*used, cached);
      left = std::min(left, *limit > held ? *limit - held : 0);
    }
    if (at.string().size() <= root.string().size()) return left;
  }
}

/// What the cgroups of this process leave, version 2 ("0::/path") or 1 ("4:memory:/path").
size_t cgroup_bytes_left() {
  size_t left = std::numeric_limits<size_t>::max();
  std::ifstream in("/proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1),
                      path = line.substr(second + 1);
    if (controllers.empty()) {
      left = std::min(left, left_in_hierarchy("/sys/fs/cgroup", path, "memory.max", "memory.current", ""));
    } else if (controllers.find("memory") != std::string::npos) {
      left = std::min(left, left_in_hierarchy("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes",
                                              "memory.usage_in_bytes", "total_"));
    }
  }
  return left;
}
}  // namespace

size_t MemoryPlan::total() const {
  size_t bytes = 0;
  for (const auto& [name, size] : parts) bytes += size;
  return bytes;
}

std::string MemoryPlan::text() const {
  std::string text;
  for (const auto& [name, size] : parts) {
    text += cat(text.empty() ? "" : ", ", name, " ", human_bytes(static_cast<double>(size)));
  }
  return cat(text, "; in all ", human_bytes(static_cast<double>(total())));
}

size_t resident_bytes() { return proc_value("/proc/self/status", "VmRSS").value_or(0); }
size_t peak_resident_bytes() { return proc_value("/proc/self/status", "VmHWM").value_or(0); }

size_t available_bytes() {
  const size_t free =
      proc_value("/proc/meminfo", "MemAvailable").value_or(std::numeric_limits<size_t>::max());
  return std::min(free, cgroup_bytes_left());
}

}  // namespace llmtool
