#include <cmath>

#include "kernels/parallel.h"
#include "llmtool/kernels/attention.h"
#include "llmtool/kernels/convert.h"

namespace llmtool {

namespace {
/// The slopes of H heads: a geometric sequence where H is a power of two; else that of the next lower one,
/// and between them every other one of the next higher.
float alibi_slope(int64_t h, int64_t H) {
  int64_t power = 1;
  while (2 * power <= H) power *= 2;
  const auto slope = [](int64_t heads, int64_t exponent) {
    const float base = static_cast<float>(std::exp2(-8.0 / static_cast<double>(heads)));
    return std::pow(base, static_cast<float>(exponent));
  };
  return h < power ? slope(power, h + 1) : slope(2 * power, 2 * (h - power) + 1);
}

float rounded_to_bf16(float x) {
  uint16_t bits;
  from_f32(&x, &bits, DType::bf16, 1);
  to_f32(&bits, DType::bf16, &x, 1);
  return x;
}
}  // namespace

void alibi_table(Exec& exec, float scale, bool bf16, Tensor table) {
  if (exec.dry()) return;
  for_rows(exec, table.rows(), 10 * table.cols(), [&](int64_t h) {
    const auto rounded = [&](float x) { return bf16 ? rounded_to_bf16(x) : x; };
    const float slope = rounded(alibi_slope(h, table.rows()));
    float* const row = table.f32() + h * table.cols();
    for (int64_t j = 0; j < table.cols(); ++j)
      row[j] = scale * rounded(slope * rounded(static_cast<float>(j)));
  });
}

}  // namespace llmtool
