// Blocks of quantized numbers and 8-bit floats.

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "llmtool/core/error.h"
#include "llmtool/kernels/convert.h"
#include "reference.h"
#include "support.h"

namespace llmtool {
namespace {

using reference::normal;

constexpr DType kBlockTypes[] = {DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_0,
                                 DType::q5_1, DType::q4_k, DType::q5_k, DType::q6_k};

/// ggml's bytes and floats, made by ggml.
struct Made {
  explicit Made(const std::filesystem::path& folder, DType dtype) {
    std::string name = dtype_name(dtype);
    if (name.ends_with('k')) name.back() = 'K';
    blocks = test::read_text(folder / (name + ".q"));
    const std::string text = test::read_text(folder / (name + ".deq_f32"));
    floats.resize(text.size() / sizeof(float));
    std::memcpy(floats.data(), text.data(), text.size());
  }
  std::string blocks;
  std::vector<float> floats;
};

TEST(Quantize, ReadsGgmlsBlocksBitForBit) {
  REQUIRE_REFERENCE(folder, "quants");
  std::vector<DType> types(std::begin(kBlockTypes), std::end(kBlockTypes));
  types.insert(types.end(), {DType::f16, DType::bf16});
  for (const DType dtype : types) {
    const Made made(folder, dtype);
    const auto n = static_cast<int64_t>(made.floats.size());
    ASSERT_EQ(n, 8192);
    ASSERT_EQ(made.blocks.size(), dtype_bytes(dtype, n));
    std::vector<float> found(made.floats.size());
    to_f32(made.blocks.data(), dtype, found.data(), n);
    EXPECT_EQ(std::memcmp(found.data(), made.floats.data(), found.size() * sizeof(float)), 0)
        << dtype_name(dtype);
    const std::string shifted = "x" + made.blocks;  // files align as they like
    to_f32(shifted.data() + 1, dtype, found.data(), n);
    EXPECT_EQ(std::memcmp(found.data(), made.floats.data(), found.size() * sizeof(float)), 0)
        << dtype_name(dtype);
  }
}

TEST(Quantize, WritesGgmlsBlocksBitForBit) {
  REQUIRE_REFERENCE(folder, "quants");
  const std::string text = test::read_text(folder / "input_f32_32x256.bin");
  std::vector<float> input(text.size() / sizeof(float));
  std::memcpy(input.data(), text.data(), text.size());
  for (const DType dtype : {DType::f16, DType::bf16, DType::q8_0, DType::q4_0}) {
    const Made made(folder, dtype);
    std::string found(made.blocks.size(), '\0');
    from_f32(input.data(), found.data(), dtype, static_cast<int64_t>(input.size()));
    EXPECT_TRUE(found == made.blocks) << dtype_name(dtype);
  }
}

/// The greatest error of a rounded number is half a step; q4_0's step goes from -8 to 7 only, so that the far
/// side may be cut by a whole one. The scale itself is an f16 (2^-11 of up to 127 or 8 steps).
TEST(Quantize, RoundsToTheNearestLevel) {
  const auto x = normal(32 * 200, 3);
  for (const auto& [dtype, levels, worst] : {std::tuple(DType::q8_0, 127.0f, 0.5f + 127 * 0x1p-11f),
                                             std::tuple(DType::q4_0, 8.0f, 1 + 8 * 0x1p-11f)}) {
    std::vector<std::byte> blocks(dtype_bytes(dtype, static_cast<int64_t>(x.size())));
    std::vector<float> y(x.size());
    from_f32(x.data(), blocks.data(), dtype, static_cast<int64_t>(x.size()));
    to_f32(blocks.data(), dtype, y.data(), static_cast<int64_t>(y.size()));
    for (size_t block = 0; block < x.size(); block += 32) {
      float greatest = 0;
      for (size_t i = block; i < block + 32; ++i) greatest = std::max(greatest, std::abs(x[i]));
      for (size_t i = block; i < block + 32; ++i) EXPECT_LE(std::abs(y[i] - x[i]), worst * greatest / levels);
    }
  }
}

TEST(Quantize, SmallestAndGreatestBlocks) {
  for (const DType dtype : {DType::q8_0, DType::q4_0}) {
    for (const float value : {0.0f, 1e-45f, 1e-39f, 1e-20f, 1.0f, -3e5f}) {
      std::vector<float> x(32, 0), y(32, 1);
      x[7] = value;
      std::byte block[34];
      from_f32(x.data(), block, dtype, 32);
      to_f32(block, dtype, y.data(), 32);
      EXPECT_NEAR(y[7], std::abs(value) < 1e-10f ? 0 : value, std::abs(value) * 0x1p-11f);
      EXPECT_EQ(y[6], 0);
    }
  }
}

TEST(Quantize, RefusesWhatABlockCannotHold) {
  std::vector<float> x(256, 1);
  std::byte block[256];
  for (const DType dtype : {DType::q8_0, DType::q4_0}) {
    EXPECT_THROW(from_f32(x.data(), block, dtype, 33), Error);
    EXPECT_THROW(to_f32(block, dtype, x.data(), 16), Error);
    for (const float value : {INFINITY, -INFINITY, std::numeric_limits<float>::quiet_NaN(), 1e30f}) {
      for (const size_t place : {0u, 13u, 31u}) {
        std::vector<float> bad(32, 1);
        bad[place] = value;
        EXPECT_THROW(from_f32(bad.data(), block, dtype, 32), Error) << value;
      }
    }
  }
  for (const DType dtype : {DType::q4_1, DType::q4_k, DType::q6_k, DType::f8_e4m3, DType::i32})
    EXPECT_THROW(from_f32(x.data(), block, dtype, 256), Error) << dtype_name(dtype);
  EXPECT_THROW(to_f32(block, DType::i32, x.data(), 1), Error);
}

/// x with P(X < x) = p of a normal distribution.
double normal_quantile(double p) {
  double low = -10, high = 10;
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2;
    (std::erfc(-middle / std::sqrt(2.0)) / 2 < p ? low : high) = middle;
  }
  return low;
}

/// What the sixteen codes stand for where the scale is 1.
std::vector<float> nf4_levels() {
  std::byte block[36];
  const float one = 1;
  std::memcpy(block, &one, sizeof one);
  for (int i = 0; i < 32; ++i) block[4 + i] = static_cast<std::byte>(i % 16 | (15 - i % 16) << 4);
  std::vector<float> y(64);
  to_f32(block, DType::nf4, y.data(), 64);
  for (size_t i = 0; i < 16; ++i) EXPECT_EQ(y[i], y[47 - i]);  // low nibbles, then high ones
  y.resize(16);
  return y;
}

/// The published levels are quantiles of a normal distribution, as far as possible from its ends at one half
/// each side, divided by the greatest; computed in f32, whose quantiles at the far end are good to 1e-6.
TEST(NormalFloat, LevelsAreQuantilesOfANormalDistribution) {
  const double offset = (1 - 1 / 32.0 + 1 - 1 / 30.0) / 2;
  std::vector<double> expected = {0};
  for (int i = 0; i < 8; ++i) expected.push_back(normal_quantile(offset + i * (0.5 - offset) / 8));
  for (int i = 0; i < 7; ++i) expected.push_back(-normal_quantile(offset + i * (0.5 - offset) / 7));
  std::sort(expected.begin(), expected.end());
  const auto found = nf4_levels();
  for (size_t i = 0; i < 16; ++i) EXPECT_NEAR(found[i], expected[i] / expected.back(), 1e-6) << i;
  EXPECT_EQ(found[0], -1);
  EXPECT_EQ(found[7], 0);
  EXPECT_EQ(found[15], 1);
}

/// Values go to the nearest level of their scale: exactly the greatest magnitude of 64 in nf4; in nf4_dq off
/// by half a step of 1 / 255 of the greatest of four, which itself is an f16 (2^-11).
TEST(NormalFloat, RoundsToTheNearestLevelOfItsScale) {
  auto x = normal(256 * 40, 5);
  for (size_t i = 0; i < x.size(); ++i) x[i] *= i / 64 % 4 == 2 ? 0.03f : 0.02f;
  const auto levels = nf4_levels();
  for (const DType dtype : {DType::nf4, DType::nf4_dq}) {
    std::vector<std::byte> blocks(dtype_bytes(dtype, static_cast<int64_t>(x.size())));
    std::vector<float> y(x.size());
    from_f32(x.data(), blocks.data(), dtype, static_cast<int64_t>(x.size()));
    to_f32(blocks.data(), dtype, y.data(), static_cast<int64_t>(y.size()));
    for (size_t block = 0; block < x.size(); block += 64) {
      float greatest = 0, of_four = 0;
      for (size_t i = block; i < block + 64; ++i) greatest = std::max(greatest, std::abs(x[i]));
      for (size_t i = block / 256 * 256; i < block / 256 * 256 + 256; ++i)
        of_four = std::max(of_four, std::abs(x[i]));
      const float off = dtype == DType::nf4 ? 0 : of_four * (0.5f / 255 + 0x1p-11f);
      for (size_t i = block; i < block + 64; ++i) {
        float least = INFINITY;
        for (const float level : levels) least = std::min(least, std::abs(x[i] - level * greatest));
        EXPECT_LE(std::abs(y[i] - x[i]), least + off + 1e-6f * greatest);
        const auto is_found = [&](float level) { return level * greatest == y[i]; };
        EXPECT_EQ(dtype == DType::nf4 ? std::count_if(levels.begin(), levels.end(), is_found) : 1, 1);
      }
    }
  }
}

TEST(NormalFloat, ZerosStayZerosAndTheGreatestStaysItself) {
  for (const DType dtype : {DType::nf4, DType::nf4_dq}) {
    for (const float value : {0.0f, -0.0f, 1e-45f, 1e-39f, 0.125f, -2.0f, 3e4f}) {
      std::vector<float> x(256, 0), y(256, 1);
      x[7] = value;
      std::byte block[144];
      from_f32(x.data(), block, dtype, 256);
      to_f32(block, dtype, y.data(), 256);
      // A scale of 11 bits; what is below the smallest normal f32 may vanish.
      EXPECT_NEAR(y[7], std::abs(value) < 1e-37f ? 0 : value, std::max(std::abs(value) * 0x1p-11f, 1e-38f));
      y[7] = 0;
      EXPECT_EQ(y, std::vector<float>(256, 0)) << value;
    }
  }
}

TEST(NormalFloat, RefusesWhatABlockCannotHold) {
  std::byte block[144];
  for (const DType dtype : {DType::nf4, DType::nf4_dq}) {
    for (const float value : {INFINITY, -INFINITY, std::numeric_limits<float>::quiet_NaN()}) {
      for (const size_t place : {0u, 130u, 255u}) {
        std::vector<float> bad(256, 1);
        bad[place] = value;
        EXPECT_THROW(from_f32(bad.data(), block, dtype, 256), Error) << value;
      }
    }
    const std::vector<float> x(256, 1);
    EXPECT_THROW(from_f32(x.data(), block, dtype, 96), Error);
  }
  const std::vector<float> great(256, 1e6f);
  from_f32(great.data(), block, DType::nf4, 256);
  EXPECT_THROW(from_f32(great.data(), block, DType::nf4_dq, 256), Error);
}

TEST(Convert, EightBitFloatsAreWhatTheStandardSays) {
  struct Case {
    DType dtype;
    uint8_t bits;
    float value;
  };
  const Case cases[] = {
      {DType::f8_e4m3, 0x00, 0.0f},        {DType::f8_e4m3, 0x80, -0.0f},     {DType::f8_e4m3, 0x01, 0x1p-9f},
      {DType::f8_e4m3, 0x07, 7 * 0x1p-9f}, {DType::f8_e4m3, 0x08, 0x1p-6f},   {DType::f8_e4m3, 0x38, 1.0f},
      {DType::f8_e4m3, 0x7e, 448.0f},      {DType::f8_e4m3, 0xfe, -448.0f},   {DType::f8_e5m2, 0x00, 0.0f},
      {DType::f8_e5m2, 0x01, 0x1p-16f},    {DType::f8_e5m2, 0x04, 0x1p-14f},  {DType::f8_e5m2, 0x3c, 1.0f},
      {DType::f8_e5m2, 0x7b, 57344.0f},    {DType::f8_e5m2, 0xfc, -INFINITY}, {DType::f8_e5m2, 0xc1, -2.5f}};
  for (const Case& c : cases) {
    float found = 0;
    to_f32(&c.bits, c.dtype, &found, 1);
    EXPECT_EQ(std::bit_cast<uint32_t>(found), std::bit_cast<uint32_t>(c.value)) << int{c.bits};
  }
  int nans[2] = {};
  for (int i = 0; i < 256; ++i) {
    const auto bits = static_cast<uint8_t>(i);
    float values[2];
    to_f32(&bits, DType::f8_e4m3, &values[0], 1);
    to_f32(&bits, DType::f8_e5m2, &values[1], 1);
    nans[0] += std::isnan(values[0]);
    nans[1] += std::isnan(values[1]);
  }
  EXPECT_EQ(nans[0], 2);
  EXPECT_EQ(nans[1], 6);
}

TEST(Convert, ABrainFloatsNanStaysOne) {
  for (const uint32_t bits : {0x7f800001u, 0xff800001u, 0x7fffffffu, 0xffffffffu, 0x7fc00000u}) {
    const auto value = std::bit_cast<float>(bits);
    uint16_t found = 0;
    from_f32(&value, &found, DType::bf16, 1);
    EXPECT_EQ(found, static_cast<uint16_t>(bits >> 16 | 64));
  }
}

}  // namespace
}  // namespace llmtool
