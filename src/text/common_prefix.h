#pragma once
// What two texts of ids begin with.

#include <algorithm>
#include <span>

#include "llmtool/text/tokenizer.h"

namespace llmtool {

/// How many ids two texts have in common from the start.
inline size_t common_prefix(std::span<const TokenId> a, std::span<const TokenId> b) {
  const auto n = static_cast<std::ptrdiff_t>(std::min(a.size(), b.size()));
  return static_cast<size_t>(std::mismatch(a.begin(), a.begin() + n, b.begin()).first - a.begin());
}

}  // namespace llmtool
