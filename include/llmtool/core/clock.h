#pragma once
// The clock that durations are measured by.

#include <chrono>

namespace llmtool {

/// Seconds since some moment of the past; never goes back.
inline double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace llmtool
