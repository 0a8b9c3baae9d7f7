// Blocks of 32 or 256 numbers that share a scale. Built without fused multiply-adds, which would round a
// number to another level than ggml's reference does.

#include "kernels/quantize.h"

#if defined(__F16C__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/simd.h"
#include "llmtool/core/error.h"

namespace llmtool {

namespace {
float half_at(const uint8_t* p) {
#if defined(__F16C__)
  uint16_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return _cvtsh_ss(bits);  // Eigen's takes a dozen instructions, as many as a block's values
#else
  Eigen::half value;
  std::memcpy(&value, p, sizeof value);
  return static_cast<float>(value);
#endif
}

constexpr int64_t kQ8Elements = 32, kQ8Bytes = 34;  // of a block of q8_0

/// Eight signed bytes times d.
void read_eight(const uint8_t* q, float d, float* y) {
#if defined(__AVX2__)
  const __m256i bytes = _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(q)));
  _mm256_storeu_ps(y, _mm256_mul_ps(_mm256_cvtepi32_ps(bytes), _mm256_set1_ps(d)));
#else
  for (int i = 0; i < 8; ++i) y[i] = static_cast<float>(static_cast<int8_t>(q[i])) * d;
#endif
}

/// 2 bytes of scale d, 32 signed bytes q; value d q.
void read_q8_0(const uint8_t* block, float* y) {
  const float d = half_at(block);
  for (int i = 0; i < kQ8Elements; i += 8) read_eight(block + 2 + i, d, y + i);
}

/// Scale d, minimum m (if kMinimum), 4 bytes of fifth bits (if kFive), 16 bytes of low nibbles (numbers 0 to
/// 15) and high nibbles (16 to 31); value d q + m, or d (q - half the range).
template <bool kFive, bool kMinimum>
void read_nibbles(const uint8_t* block, float* y) {
  constexpr int kZero = kMinimum ? 0 : kFive ? 16 : 8;
  const float d = half_at(block), m = kMinimum ? half_at(block + 2) : 0;
  const uint8_t* at = block + (kMinimum ? 4 : 2);
  uint32_t fifth = 0;
  if constexpr (kFive) {
    std::memcpy(&fifth, at, sizeof fifth);
    at += sizeof fifth;
  }
  for (int i = 0; i < 16; ++i) {
    int low = at[i] & 15, high = at[i] >> 4;
    if constexpr (kFive) {
      low |= static_cast<int>(fifth >> i & 1) << 4;
      high |= static_cast<int>(fifth >> (i + 16) & 1) << 4;
    }
    y[i] = static_cast<float>(low - kZero) * d;
    y[i + 16] = static_cast<float>(high - kZero) * d;
    if constexpr (kMinimum) {
      y[i] += m;
      y[i + 16] += m;
    }
  }
}

/// The scale and the minimum, 6 bits each, of group `g` of 8: the first four lie in the low bits of bytes 0-3
/// and 4-7; the last four have their low nibbles in bytes 8-11 and their upper two bits above the first four.
struct GroupScale {
  int scale, minimum;
};
GroupScale group_scale(const uint8_t* packed, int g) {
  if (g < 4) return {packed[g] & 63, packed[g + 4] & 63};
  return {(packed[g + 4] & 15) | (packed[g - 4] >> 6) << 4, (packed[g + 4] >> 4) | (packed[g] >> 6) << 4};
}

/// Scales d and dm, 12 bytes of group scales, 32 bytes of fifth bits (if kFive), 128 bytes of nibbles: 32
/// bytes hold a group of 32 in their low nibbles and the next in their high ones; value d s q - dm m.
template <bool kFive>
void read_groups(const uint8_t* block, float* y) {
  const float d = half_at(block), dm = half_at(block + 2);
  const uint8_t* const fifth = block + 16;
  const uint8_t* const nibbles = fifth + (kFive ? 32 : 0);
  for (int g = 0; g < 8; ++g) {
    const GroupScale packed = group_scale(block + 4, g);
    const float scale = d * static_cast<float>(packed.scale),
                minimum = dm * static_cast<float>(packed.minimum);
    const uint8_t* const at = nibbles + g / 2 * 32;
    const int shift = g % 2 * 4;
    for (int i = 0; i < 32; ++i) {
      int q = at[i] >> shift & 15;
      if constexpr (kFive) q |= (fifth[i] >> g & 1) << 4;
      y[g * 32 + i] = scale * static_cast<float>(q) - minimum;
    }
  }
}

/// 128 bytes of low nibbles, 64 bytes of upper two bits, 16 signed scales for 16 numbers each, d; value
/// d s (q - 32). Each half of the block: four runs of 32, two in the low nibbles of 64 bytes, two in the
/// high.
void read_q6_k(const uint8_t* block, float* y) {
  const float d = half_at(block + 208);
  for (int run = 0; run < 8; ++run) {
    const int half = run / 4, part = run % 4;
    const uint8_t* const low = block + half * 64 + part % 2 * 32;
    const uint8_t* const high = block + 128 + half * 32;
    for (int i = 0; i < 32; ++i) {
      const int q = (low[i] >> part / 2 * 4 & 15) | (high[i] >> part * 2 & 3) << 4;
      const auto scale = static_cast<int8_t>(block[192 + run * 2 + i / 16]);
      y[run * 32 + i] = d * static_cast<float>(scale) * static_cast<float>(q - 32);
    }
  }
}

template <auto kRead>
void read_blocks(const void* x, DType dtype, float* y, int64_t n) {
  const DTypeBlock block = dtype_block(dtype);
  const auto* at = static_cast<const uint8_t*>(x);
  for (int64_t i = 0; i < n; i += block.elements, at += block.bytes) kRead(at, y + i);
}

/// Writes the scale d in front of a block and returns 1 / d, or 0 where that would be infinite. `greatest` is
/// the greatest magnitude, or NaN.
float write_scale(float d, float greatest, DType dtype, uint8_t* block) {
  const Eigen::half stored(d);
  if (!(greatest <= std::numeric_limits<float>::max()) || !Eigen::numext::isfinite(stored)) {
    throw Error(cat("[convert] ", dtype_name(dtype), ": expected finite values whose scale fits f16, found ",
                    greatest));
  }
  std::memcpy(block, &stored, sizeof stored);
  return std::abs(d) >= std::numeric_limits<float>::min() ? 1 / d : 0;
}

/// The greatest magnitude of 32 values; NaN where one is among them.
float greatest_magnitude(const float* x) {
  float greatest = 0;
  for (int i = 0; i < 32; ++i) {
    if (!(std::abs(x[i]) <= greatest)) greatest = std::abs(x[i]);
    if (std::isnan(greatest)) break;
  }
  return greatest;
}

void write_q8_0(const float* x, uint8_t* block) {
  const float greatest = greatest_magnitude(x);
  const float inverse = write_scale(greatest / 127, greatest, DType::q8_0, block);
  for (int i = 0; i < 32; ++i)
    block[2 + i] = static_cast<uint8_t>(static_cast<int>(std::round(x[i] * inverse)));
}

void write_q4_0(const float* x, uint8_t* block) {
  const float greatest = greatest_magnitude(x);
  float signed_greatest = 0;  // the first of that magnitude; it becomes -8
  for (int i = 31; i >= 0; --i) {
    if (std::abs(x[i]) == greatest) signed_greatest = x[i];
  }
  const float inverse = write_scale(signed_greatest / -8, greatest, DType::q4_0, block);
  const auto level = [&](float value) { return std::min(15, static_cast<int>(value * inverse + 8.5f)); };
  for (int i = 0; i < 16; ++i) block[2 + i] = static_cast<uint8_t>(level(x[i]) | level(x[i + 16]) << 4);
}
}  // namespace

bool is_block_type(DType dtype) { return dtype_block(dtype).elements > 1; }

void dequantize(const void* x, DType dtype, float* y, int64_t n) {
  switch (dtype) {
    case DType::q8_0:
      return read_blocks<read_q8_0>(x, dtype, y, n);
    case DType::q4_0:
      return read_blocks<read_nibbles<false, false>>(x, dtype, y, n);
    case DType::q4_1:
      return read_blocks<read_nibbles<false, true>>(x, dtype, y, n);
    case DType::q5_0:
      return read_blocks<read_nibbles<true, false>>(x, dtype, y, n);
    case DType::q5_1:
      return read_blocks<read_nibbles<true, true>>(x, dtype, y, n);
    case DType::q4_k:
      return read_blocks<read_groups<false>>(x, dtype, y, n);
    case DType::q5_k:
      return read_blocks<read_groups<true>>(x, dtype, y, n);
    case DType::q6_k:
      return read_blocks<read_q6_k>(x, dtype, y, n);
    case DType::nf4:
      return read_blocks<read_nf4>(x, dtype, y, n);
    case DType::nf4_dq:
      return read_blocks<read_nf4_dq>(x, dtype, y, n);
    default:
      throw Error(cat("[convert] ", dtype_name(dtype), " has no blocks"));
  }
}

void unpack_columns(const std::byte* rows, size_t stride, int64_t width, int64_t n, float* out) {
  typedef uint32_t Bits __attribute__((vector_size(32)));
  constexpr uint32_t kUpper = 0xff000000;
  const auto store = [](float* to, Bits q, simd::Vec8 scale) {
    const simd::Vec8 y = __builtin_convertvector(reinterpret_cast<simd::IntVec8>(q), simd::Vec8) * scale;
    std::memcpy(to, &y, sizeof y);
  };
  const auto* at = reinterpret_cast<const uint8_t*>(rows);
  for (int64_t p = 0; p < n; p += kQ8Elements, at += kQ8Bytes) {
    for (int64_t w = 0; w < width; w += 8) {
      const uint8_t* block = at + static_cast<size_t>(w) * stride;
      simd::Vec8 scale, steps[8];  // a lane of the latter holds the bytes of four steps
      for (int i = 0; i < 8; ++i, block += stride) {
        scale[i] = half_at(block) * 0x1p-24f;  // a byte in a lane's upper bits is 2^24 times its value
        std::memcpy(&steps[i], block + 2, sizeof steps[i]);
      }
      simd::transpose(steps);
      float* to = out + p * width + w;
      for (int i = 0; i < 8; ++i, to += 4 * width) {
        const auto four = reinterpret_cast<Bits>(steps[i]);
        store(to, four << 24, scale);
        store(to + width, four << 16 & kUpper, scale);
        store(to + 2 * width, four << 8 & kUpper, scale);
        store(to + 3 * width, four & kUpper, scale);
      }
    }
  }
}

void unpack_slivers(const std::byte* rows, size_t stride, int64_t width, int64_t n, int64_t sliver,
                    float* out) {
  const auto* at = reinterpret_cast<const uint8_t*>(rows);
  for (int64_t p = 0; p < n; ++p, at += stride) {
    const uint8_t* block = at;
    for (int64_t w = 0; w < width; w += kQ8Elements, block += kQ8Bytes) {
      float* to = out + w * n + p * sliver;
      const float d = half_at(block);
      for (int64_t i = 0; i < kQ8Elements; i += sliver, to += sliver * n) {
        for (int64_t e = 0; e < sliver; e += 8) read_eight(block + 2 + i + e, d, to + e);
      }
    }
  }
}

void quantize(const float* x, void* y, DType dtype, int64_t n) {
  void (*const write)(const float*, uint8_t*) = dtype == DType::q8_0     ? write_q8_0
                                                : dtype == DType::q4_0   ? write_q4_0
                                                : dtype == DType::nf4    ? write_nf4
                                                : dtype == DType::nf4_dq ? write_nf4_dq
                                                                         : nullptr;
  if (!write) {
    throw Error(cat("[convert] expected f32, bf16, f16, q8_0, q4_0, nf4 or nf4_dq to write, found ",
                    dtype_name(dtype)));
  }
  const DTypeBlock block = dtype_block(dtype);
  auto* at = static_cast<uint8_t*>(y);
  for (int64_t i = 0; i < n; i += block.elements, at += block.bytes) write(x + i, at);
}

}  // namespace llmtool
