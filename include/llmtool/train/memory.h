#pragma once
// Memory: what a run will take, what there is, what it took.

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace llmtool {

struct MemoryPlan {
  std::vector<std::pair<std::string, size_t>> parts;  // name, bytes
  size_t total() const;
  std::string text() const;  // "weights 440 MB, optimizer 880 MB, ...: 1.7 GB"
};

size_t resident_bytes();       // of this process, now
size_t peak_resident_bytes();  // of this process, so far
/// What this process may still take: free memory, or what its cgroup has left if that is less.
size_t available_bytes();

}  // namespace llmtool
