// Updates, sums and conversions.

#include "llmtool/kernels/elementwise.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>

#include "llmtool/kernels/convert.h"
#include "llmtool/kernels/optimizer.h"
#include "reference.h"

namespace llmtool {
namespace {

using namespace reference;

TEST(AdamW, FollowsThePaper) {
  constexpr size_t n = 40000;
  for (const double decay : {0.0, 0.1}) {
    Machine m;
    auto p = normal(n, 1);
    std::vector<float> first(n), second(n);
    Values<double> q = widen(p), u(n), w(n);
    for (int64_t step = 1; step <= 5; ++step) {
      const auto g = normal(n, 10 + static_cast<uint64_t>(step), 1e-2);
      adamw(m.exec, {1e-2, 0.9, 0.99, 1e-8, decay, 0.5, step}, p.data(), g.data(), first.data(),
            second.data(), n);
      for (size_t i = 0; i < n; ++i) {
        const double gi = 0.5 * g[i];
        u[i] = 0.9 * u[i] + 0.1 * gi;
        w[i] = 0.99 * w[i] + 0.01 * gi * gi;
        const double mean = u[i] / (1 - std::pow(0.9, step)), square = w[i] / (1 - std::pow(0.99, step));
        q[i] = q[i] * (1 - 1e-2 * decay) - 1e-2 * mean / (std::sqrt(square) + 1e-8);
      }
    }
    EXPECT_LT(distance(p, q), kRounding);
    EXPECT_LT(distance(first, u), kRounding);
    EXPECT_LT(distance(second, w), kRounding);
  }
}

TEST(AdamW, HasTheSameBitsForAnyNumberOfThreads) {
  constexpr size_t n = 100001;
  std::vector<std::vector<float>> results;
  for (const int threads : {1, 2, 5}) {
    Machine m(threads);
    auto p = normal(n, 1), first = normal(n, 2), second = normal(n, 3);
    for (float& value : second) value *= value;
    const auto g = normal(n, 4);
    adamw(m.exec, {1e-2, 0.9, 0.99, 1e-8, 0.1, 1, 3}, p.data(), g.data(), first.data(), second.data(), n);
    results.push_back(p);
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

TEST(SumOfSquares, IsExactToDoubleAndDoesNotDependOnTheThreads) {
  for (const size_t n : {0u, 1u, 7u, 16384u, 16385u, 100003u}) {
    const auto x = normal(n, n);
    double expected = 0;
    for (const float value : x) expected += static_cast<double>(value) * value;
    Machine one(1), five(5);
    const double found = sum_of_squares(one.exec, x.data(), static_cast<int64_t>(n));
    EXPECT_NEAR(found, expected, 1e-12 * expected);
    EXPECT_EQ(found, sum_of_squares(five.exec, x.data(), static_cast<int64_t>(n)));
  }
}

TEST(AddColumnSums, AddsEveryRow) {
  for (const int64_t rows : {1, 3, 64, 65, 1000}) {
    constexpr int64_t N = 37, ld = 40;
    Machine m;
    const auto x = normal(static_cast<size_t>(rows * ld), 1);
    std::vector<float> total(N, 5);
    Values<double> expected(N, 5);
    add_column_sums(m.exec, x.data(), rows, N, ld, total.data());
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = 0; i < N; ++i) expected[static_cast<size_t>(i)] += x[static_cast<size_t>(r * ld + i)];
    }
    EXPECT_LT(distance(total, expected), kRounding);
  }
}

TEST(Convert, EveryHalfAndBrainFloatComesBack) {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    std::vector<uint16_t> all(65536), back(65536);
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
    std::vector<float> wide(all.size());
    to_f32(all.data(), dtype, wide.data(), 65536);
    from_f32(wide.data(), back.data(), dtype, 65536);
    for (size_t i = 0; i < all.size(); ++i) {
      if (std::isnan(wide[i])) {
        float again = 0;
        to_f32(&back[i], dtype, &again, 1);
        EXPECT_TRUE(std::isnan(again)) << i;
      } else {
        EXPECT_EQ(back[i], all[i]);
      }
    }
  }
}

TEST(Convert, HalfValuesAreWhatTheStandardSays) {
  const std::pair<uint16_t, float> cases[] = {
      {0x0000, 0.0f},     {0x8000, -0.0f},           {0x3c00, 1.0f},
      {0xc000, -2.0f},    {0x7bff, 65504.0f},        {0x0400, 0x1p-14f},
      {0x0001, 0x1p-24f}, {0x03ff, 1023 * 0x1p-24f}, {0x3555, 0.333251953125f},
      {0x7c00, INFINITY}, {0xfc00, -INFINITY}};
  for (const auto& [bits, value] : cases) {
    float found = 0;
    to_f32(&bits, DType::f16, &found, 1);
    EXPECT_EQ(std::bit_cast<uint32_t>(found), std::bit_cast<uint32_t>(value)) << bits;
  }
  const uint16_t brain = 0x3f80;
  float one = 0;
  to_f32(&brain, DType::bf16, &one, 1);
  EXPECT_EQ(one, 1.0f);
}

TEST(Convert, RoundsToTheNearestAndTiesToEven) {
  struct Case {
    DType dtype;
    float value;
    uint16_t bits;
  };
  const Case cases[] = {{DType::f16, 1 + 0x1p-11f, 0x3c00},
                        {DType::f16, 1 + 3 * 0x1p-11f, 0x3c02},
                        {DType::f16, 1 + 0x1p-11f + 0x1p-20f, 0x3c01},
                        {DType::f16, 65519.0f, 0x7bff},
                        {DType::f16, 65520.0f, 0x7c00},
                        {DType::f16, 1e30f, 0x7c00},
                        {DType::f16, 0x1p-25f, 0x0000},
                        {DType::f16, 0x1.8p-25f, 0x0001},
                        {DType::bf16, 1 + 0x1p-8f, 0x3f80},
                        {DType::bf16, 1 + 3 * 0x1p-8f, 0x3f82},
                        {DType::bf16, 1 + 0x1p-8f + 0x1p-20f, 0x3f81},
                        {DType::bf16, -INFINITY, 0xff80},
                        {DType::bf16, 3.4028235e38f, 0x7f80}};
  for (const Case& c : cases) {
    uint16_t found = 0;
    from_f32(&c.value, &found, c.dtype, 1);
    EXPECT_EQ(found, c.bits) << c.value;
  }
}

}  // namespace
}  // namespace llmtool
