#pragma once
// Loops over rows and elements, cut into tasks whose borders depend on the shape alone.

#include <algorithm>

#include "llmtool/core/exec.h"

namespace llmtool {

/// Rows of one task when a row costs about `row_cost` elementary operations.
inline int64_t rows_per_task(int64_t row_cost) {
  return std::clamp<int64_t>(16384 / std::max<int64_t>(row_cost, 1), 1, 64);
}

/// Calls body(first, last, worker) for consecutive groups of `group` rows.
template <class Body>
void for_row_groups(Exec& exec, int64_t rows, int64_t group, Body body) {
  exec.pool.run((rows + group - 1) / group, [&](int64_t task, int worker) {
    body(task * group, std::min(rows, (task + 1) * group), worker);
  });
}

/// Calls body(row) for every row.
template <class Body>
void for_rows(Exec& exec, int64_t rows, int64_t row_cost, Body body) {
  for_row_groups(exec, rows, rows_per_task(row_cost), [&](int64_t first, int64_t last, int) {
    for (int64_t row = first; row < last; ++row) body(row);
  });
}

/// Calls body(first, last) for consecutive ranges of n elements.
template <class Body>
void for_elements(Exec& exec, int64_t n, Body body) {
  constexpr int64_t kElements = 16384;
  for_row_groups(exec, n, kElements, [&](int64_t first, int64_t last, int) { body(first, last); });
}

}  // namespace llmtool
