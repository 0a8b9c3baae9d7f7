#include "llmtool/kernels/convert.h"

#if defined(__F16C__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/quantize.h"
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

/// The upper half of an f32.
void widen_bf16(const void* x, float* y, int64_t n) {
  const auto* from = static_cast<const std::byte*>(x);
  int64_t i = 0;
#if defined(__AVX2__)
  for (; i + 8 <= n; i += 8) {
    const __m128i uppers = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 2 * i));
    const __m256i bits = _mm256_slli_epi32(_mm256_cvtepu16_epi32(uppers), 16);
    _mm256_storeu_ps(y + i, _mm256_castsi256_ps(bits));
  }
#endif
  for (; i < n; ++i) {
    uint16_t upper;
    std::memcpy(&upper, from + 2 * i, sizeof upper);
    y[i] = std::bit_cast<float>(static_cast<uint32_t>(upper) << 16);
  }
}

void widen_f16(const void* x, float* y, int64_t n) {
  int64_t i = 0;
#if defined(__F16C__)
  const auto* from = static_cast<const std::byte*>(x);
  for (; i + 8 <= n; i += 8) {
    __m128i halves;
    std::memcpy(&halves, from + 2 * i, sizeof halves);
    _mm256_storeu_ps(y + i, _mm256_cvtph_ps(halves));
  }
#endif
  widen<Eigen::half>(static_cast<const std::byte*>(x) + 2 * i, y + i, n - i);
}

void narrow_f16(const float* x, void* y, int64_t n) {
  auto* to = static_cast<Eigen::half*>(y);
  for (int64_t i = 0; i < n; ++i) to[i] = static_cast<Eigen::half>(x[i]);
}

/// The upper 16 bits, rounded to nearest even; a NaN keeps its sign and upper bits and becomes quiet, as ggml
/// has it.
void narrow_bf16(const float* x, void* y, int64_t n) {
  auto* to = static_cast<uint16_t*>(y);
  for (int64_t i = 0; i < n; ++i) {
    const auto bits = std::bit_cast<uint32_t>(x[i]);
    const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16, quiet = bits >> 16 | 64;
    to[i] = static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
  }
}

/// The 256 values of an 8-bit float: 4 bits of exponent (bias 7) and 3 of mantissa where the last value alone
/// is NaN, or 5 and 2 as in the upper half of an f16.
std::array<float, 256> f8_values(DType dtype) {
  std::array<float, 256> values{};
  for (uint32_t i = 0; i < 256; ++i) {
    if (dtype == DType::f8_e5m2) {
      const auto half = static_cast<uint16_t>(i << 8);
      widen<Eigen::half>(&half, &values[i], 1);
      continue;
    }
    const int exponent = static_cast<int>(i >> 3 & 15), mantissa = static_cast<int>(i & 7);
    float value = exponent ? std::ldexp(static_cast<float>(8 + mantissa), exponent - 10)
                           : std::ldexp(static_cast<float>(mantissa), -9);
    if ((i & 127) == 127) value = std::numeric_limits<float>::quiet_NaN();
    values[i] = i & 128 ? -value : value;
  }
  return values;
}

void widen_f8(const void* x, DType dtype, float* y, int64_t n) {
  static const std::array<float, 256> kE4M3 = f8_values(DType::f8_e4m3), kE5M2 = f8_values(DType::f8_e5m2);
  const std::array<float, 256>& values = dtype == DType::f8_e4m3 ? kE4M3 : kE5M2;
  const auto* from = static_cast<const uint8_t*>(x);
  for (int64_t i = 0; i < n; ++i) y[i] = values[from[i]];
}
}  // namespace

void to_f32(const void* x, DType dtype, float* y, int64_t n) {
  const size_t bytes = dtype_bytes(dtype, n);  // whole blocks
  if (is_block_type(dtype)) return dequantize(x, dtype, y, n);
  switch (dtype) {
    case DType::f32:
      if (n > 0) std::memcpy(y, x, bytes);
      return;
    case DType::bf16:
      return widen_bf16(x, y, n);
    case DType::f16:
      return widen_f16(x, y, n);
    case DType::f8_e4m3:
    case DType::f8_e5m2:
      return widen_f8(x, dtype, y, n);
    default:
      throw Error(cat("[convert] expected a floating-point type to read, found ", dtype_name(dtype)));
  }
}

void from_f32(const float* x, void* y, DType dtype, int64_t n) {
  const size_t bytes = dtype_bytes(dtype, n);  // whole blocks
  switch (dtype) {
    case DType::f32:
      if (n > 0) std::memcpy(y, x, bytes);
      return;
    case DType::bf16:
      return narrow_bf16(x, y, n);
    case DType::f16:
      return narrow_f16(x, y, n);
    default:
      return quantize(x, y, dtype, n);
  }
}

}  // namespace llmtool
