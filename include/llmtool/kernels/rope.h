#pragma once
// Rotary position embedding (Su et al. 2021), in the half-split form of the Llama family.

#include <cstdint>
#include <vector>

#include "llmtool/core/exec.h"

namespace llmtool {

/// Angles of every position; computed in f32 as the reference library does.
class RopeTable {
 public:
  RopeTable() = default;
  RopeTable(int64_t positions, int64_t head_dim, double theta);
  const float* cos(int64_t position) const { return &values_[position * dim_]; }             // (D / 2)
  const float* sin(int64_t position) const { return &values_[position * dim_ + dim_ / 2]; }  // (D / 2)
  int64_t head_dim() const { return dim_; }

 private:
  int64_t dim_ = 0;
  std::vector<float> values_;
};

/// Rotates `heads` vectors of head_dim in each of `rows` rows of x, `ld` floats apart, in place; row r stands at
/// positions[r]. `backward` rotates the other way.
void rope(Exec& exec, const RopeTable& table, float* x, int64_t rows, int64_t ld, int64_t heads,
          const int32_t* positions, bool backward = false);

}  // namespace llmtool
