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

/// What the cgroups of this process (version 2) leave: the least along the path to the root.
size_t cgroup_bytes_left() {
  size_t left = std::numeric_limits<size_t>::max();
  std::ifstream in("/proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("0::/")) continue;
    for (fs::path at = fs::path("/sys/fs/cgroup") / line.substr(4); at.string().starts_with("/sys/fs/cgroup");
         at = at.parent_path()) {
      const auto limit = number_in(at / "memory.max"), used = number_in(at / "memory.current");
      if (limit && used) left = std::min(left, *limit > *used ? *limit - *used : 0);
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
