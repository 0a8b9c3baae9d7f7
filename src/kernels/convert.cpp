#include "llmtool/kernels/convert.h"

#include <cstring>

#include "llmtool/core/error.h"

namespace llmtool {

namespace {
template <class Stored>
void widen(const void* x, float* y, int64_t n) {
  const auto* from = static_cast<const std::byte*>(x);  // files do not align their tensors
  for (int64_t i = 0; i < n; ++i) {
    Stored value;
    std::memcpy(&value, from + i * static_cast<int64_t>(sizeof value), sizeof value);
    y[i] = static_cast<float>(value);
  }
}

template <class Stored>
void narrow(const float* x, void* y, int64_t n) {
  auto* to = static_cast<Stored*>(y);
  for (int64_t i = 0; i < n; ++i) to[i] = static_cast<Stored>(x[i]);
}
}  // namespace

void to_f32(const void* x, DType dtype, float* y, int64_t n) {
  switch (dtype) {
    case DType::f32:
      std::memcpy(y, x, n * sizeof(float));
      return;
    case DType::bf16:
      return widen<Eigen::bfloat16>(x, y, n);
    case DType::f16:
      return widen<Eigen::half>(x, y, n);
    case DType::i32:
      break;
  }
  throw Error(cat("[convert] expected f32, bf16 or f16, found ", dtype_name(dtype)));
}

void from_f32(const float* x, void* y, DType dtype, int64_t n) {
  switch (dtype) {
    case DType::f32:
      std::memcpy(y, x, n * sizeof(float));
      return;
    case DType::bf16:
      return narrow<Eigen::bfloat16>(x, y, n);
    case DType::f16:
      return narrow<Eigen::half>(x, y, n);
    case DType::i32:
      break;
  }
  throw Error(cat("[convert] expected f32, bf16 or f16, found ", dtype_name(dtype)));
}

}  // namespace llmtool
