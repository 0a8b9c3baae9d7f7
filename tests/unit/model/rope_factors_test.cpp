#include "model/rope_factors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace llmtool {
namespace {

struct Case {
  double theta, factor, low, high, original;
  int64_t dim;
};

RopeSettings settings_of(const Case& c) {
  return {.theta = c.theta,
          .scaling = RopeScaling::llama3,
          .factor = c.factor,
          .original_positions = c.original,
          .low_freq_factor = c.low,
          .high_freq_factor = c.high};
}

/// In single precision throughout, as the script that makes llama.cpp's files reckons.
std::vector<float> in_single_precision(const Case& c) {
  const auto factor = static_cast<float>(c.factor), low = static_cast<float>(c.low),
             high = static_cast<float>(c.high), original = static_cast<float>(c.original);
  std::vector<float> factors;
  for (int64_t i = 0; i < c.dim / 2; ++i) {
    const float share = static_cast<float>(2 * i) / static_cast<float>(c.dim);
    const float length = 2 * std::numbers::pi_v<float> * std::pow(static_cast<float>(c.theta), share);
    const float smooth = (original / length - low) / (high - low);
    factors.push_back(length < original / high  ? 1
                      : length > original / low ? factor
                                                : 1 / ((1 - smooth) / factor + smooth));
  }
  return factors;
}

TEST(RopeFactors, OfPublishedModelsGiveTheirSettingsBack) {
  for (const Case& c : {Case{500000, 8, 1, 4, 8192, 128},
                        {500000, 32, 1, 4, 8192, 64},
                        {500000, 32, 1, 4, 8192, 128},
                        {500000, 16, 1, 4, 8192, 128},
                        {1e6, 64, 1, 4, 8192, 128},
                        {10000, 4, 1, 4, 2048, 64},
                        {500000, 8, 1, 8, 131072, 128}}) {
    const auto found = settings_of_factors(in_single_precision(c), c.theta, 0);
    ASSERT_TRUE(found) << c.factor << ", " << c.dim;
    EXPECT_EQ(found->scaling, RopeScaling::llama3);
    EXPECT_EQ(found->factor, c.factor);
    EXPECT_EQ(found->original_positions, c.original);
    EXPECT_EQ(found->low_freq_factor, 1);
    EXPECT_EQ(found->high_freq_factor, c.high);
  }
}

TEST(RopeFactors, WithTheTrainedContextGiveBothFrequencies) {
  const Case c = {1e6, 16, 2, 5.5, 4096, 96};
  const auto found = settings_of_factors(in_single_precision(c), c.theta, 4096);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->low_freq_factor, 2);
  EXPECT_EQ(found->high_freq_factor, 5.5);
}

/// Of few frequencies, none or one of which lies in the ramp, many settings make the same factors.
TEST(RopeFactors, OfAnySizeAreMadeBySettingsThatAreFound) {
  for (const int64_t dim : {2, 4, 6, 8, 16, 34, 128}) {
    for (const double theta : {500.0, 10000.0, 500000.0}) {
      for (const double original : {4.0, 24.0, 64.0, 300.0, 2048.0, 131072.0}) {
        for (const double high : {1.5, 4.0, 31.0}) {
          const Case c = {theta, 8, 1, high, original, dim};
          const std::vector<float> expected = rope_factors(settings_of(c), dim);
          for (const double known : {0.0, original}) {
            const auto found = settings_of_factors(expected, theta, known);
            ASSERT_TRUE(found) << dim << ", " << theta << ", " << original << ", " << high;
            const std::vector<float> again = rope_factors(*found, dim);
            for (size_t i = 0; i < again.size(); ++i) EXPECT_NEAR(again[i] / expected[i], 1, 4e-6);
          }
        }
      }
    }
  }
}

TEST(RopeFactors, OfOtherKindsHaveNoSettings) {
  const double infinite = std::numeric_limits<double>::infinity();
  for (const std::vector<float>& factors :
       std::initializer_list<std::vector<float>>{{},
                                                 {1, 2, 1},
                                                 {2, 1, 4},
                                                 {1, 1.5f, 1.6f, 4, 8},
                                                 {0, 1, 2},
                                                 {1, -1, 8},
                                                 {1, 2, NAN},
                                                 {NAN, 2, 8},
                                                 {1, 2, static_cast<float>(infinite)},
                                                 {1, static_cast<float>(infinite), 8}}) {
    EXPECT_FALSE(settings_of_factors(factors, 10000, 0)) << ::testing::PrintToString(factors);
  }
  EXPECT_FALSE(settings_of_factors({1, 2, 8}, 1, 0));
}

TEST(RopeFactors, ThatAreAllTheSameAreLinear) {
  const auto found = settings_of_factors({4, 4, 4}, 10000, 0);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->scaling, RopeScaling::linear);
  EXPECT_EQ(found->factor, 4);
}

}  // namespace
}  // namespace llmtool
