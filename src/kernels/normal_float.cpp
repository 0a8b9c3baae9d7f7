// 4-bit NormalFloat: numbers whose levels are quantiles of a normal distribution, in blocks that share a
// scale (Dettmers et al. 2023: QLoRA).

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/quantize.h"
#include "llmtool/core/error.h"

namespace llmtool {

namespace {
constexpr int kBlock = 64;  // numbers that share a scale
constexpr int kScales = 4;  // scales that share one of theirs
constexpr int kBytes = kBlock / 2;

/// Appendix E of the paper.
constexpr float kLevels[16] = {-1.0f,
                               -0.6961928009986877f,
                               -0.5250730514526367f,
                               -0.39491748809814453f,
                               -0.28444138169288635f,
                               -0.18477343022823334f,
                               -0.09105003625154495f,
                               0.0f,
                               0.07958029955625534f,
                               0.16093020141124725f,
                               0.24611230194568634f,
                               0.33791524171829224f,
                               0.44070982933044434f,
                               0.5626170039176941f,
                               0.7229568362236023f,
                               1.0f};

/// 32 bytes of low nibbles (numbers 0 to 31) and high nibbles (32 to 63); value level * scale.
void read_levels(const uint8_t* nibbles, float scale, float* y) {
  float values[16];
  for (int i = 0; i < 16; ++i) values[i] = kLevels[i] * scale;
#if defined(__AVX2__)
  const __m256 lower = _mm256_loadu_ps(values), upper = _mm256_loadu_ps(values + 8);
  const auto look_up = [&](__m256i index) {  // of 8 numbers, by their lowest 4 bits; bit 3 chooses the half
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(lower, index), _mm256_permutevar8x32_ps(upper, index),
                            _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
  };
  for (int i = 0; i < kBytes; i += 8) {
    const __m256i bytes =
        _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(nibbles + i)));
    _mm256_storeu_ps(y + i, look_up(bytes));
    _mm256_storeu_ps(y + i + kBytes, look_up(_mm256_srli_epi32(bytes, 4)));
  }
#else
  for (int i = 0; i < kBytes; ++i) {
    y[i] = values[nibbles[i] & 15];
    y[i + kBytes] = values[nibbles[i] >> 4];
  }
#endif
}

/// The nearest levels of x / scale; at a border the lower one, as bitsandbytes has it.
void write_levels(const float* x, float scale, uint8_t* nibbles) {
  const float inverse = scale >= std::numeric_limits<float>::min() ? 1 / scale : 0;
  int32_t level[kBlock] = {};
  for (int l = 0; l < 15; ++l) {
    const float border = (kLevels[l] + kLevels[l + 1]) / 2;
    for (int i = 0; i < kBlock; ++i) level[i] += x[i] * inverse > border;
  }
  for (int i = 0; i < kBytes; ++i) nibbles[i] = static_cast<uint8_t>(level[i] | level[i + kBytes] << 4);
}

/// The greatest magnitude of a block's values. Throws Error where one is infinite or NaN.
float greatest_magnitude(const float* x, DType dtype) {
  float greatest = 0;
  for (int i = 0; i < kBlock; ++i) {
    if (!std::isfinite(x[i]))
      throw Error(cat("[convert] ", dtype_name(dtype), ": expected finite values, found ", x[i]));
    greatest = std::max(greatest, std::abs(x[i]));
  }
  return greatest;
}
}  // namespace

/// 4 bytes of scale, then its levels.
void read_nf4(const uint8_t* block, float* y) {
  float scale;
  std::memcpy(&scale, block, sizeof scale);
  read_levels(block + sizeof scale, scale, y);
}

void write_nf4(const float* x, uint8_t* block) {
  const float scale = greatest_magnitude(x, DType::nf4);
  std::memcpy(block, &scale, sizeof scale);
  write_levels(x, scale, block + sizeof scale);
}

/// 2 bytes of greatest scale d (f16), 4 bytes c of which 255 stand for it, 4 times 32 bytes of levels; a
/// scale is d / 255 c.
void read_nf4_dq(const uint8_t* block, float* y) {
  Eigen::half stored;
  std::memcpy(&stored, block, sizeof stored);
  const float step = static_cast<float>(stored) / 255;
  for (int s = 0; s < kScales; ++s)
    read_levels(block + 6 + s * kBytes, step * static_cast<float>(block[2 + s]), y + s * kBlock);
}

void write_nf4_dq(const float* x, uint8_t* block) {
  float scales[kScales], greatest = 0;
  for (int s = 0; s < kScales; ++s) {
    scales[s] = greatest_magnitude(x + s * kBlock, DType::nf4_dq);
    greatest = std::max(greatest, scales[s]);
  }
  const Eigen::half stored(greatest);
  if (!Eigen::numext::isfinite(stored))
    throw Error(cat("[convert] nf4_dq: expected values that f16 can hold, found ", greatest));
  std::memcpy(block, &stored, sizeof stored);
  const float step = static_cast<float>(stored) / 255;
  for (int s = 0; s < kScales; ++s) {
    const float code = step > 0 ? std::min(255.0f, std::round(scales[s] / step)) : 0;
    block[2 + s] = static_cast<uint8_t>(code);
    write_levels(x + s * kBlock, step * code, block + 6 + s * kBytes);
  }
}

}  // namespace llmtool
