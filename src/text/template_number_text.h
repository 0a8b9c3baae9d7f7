#pragma once
// Numbers as both ways to format write them.

#include <cstdint>
#include <string>

namespace llmtool::jinja {

constexpr int64_t kMaxPrecision = 1000;
std::string digits_in_base(uint64_t n, unsigned base, bool capital);
/// As C's %e, %f, %g.
std::string c_format(double value, char type, int64_t precision, bool alternate);
inline uint64_t magnitude(int64_t n) {
  return n < 0 ? ~static_cast<uint64_t>(n) + 1 : static_cast<uint64_t>(n);
}

}  // namespace llmtool::jinja
