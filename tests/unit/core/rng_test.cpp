#include "llmtool/core/rng.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

namespace llmtool {
namespace {

/// SplitMix64 as its authors' published generator defines it, state 1234567: the first outputs are public
/// test values.
TEST(Rng, MixesAsSplitMix64) {
  const uint64_t expected[] = {6457827717110365317ULL, 3203168211198807973ULL, 9817491932198370423ULL,
                               4593380528125082431ULL, 16408922859458223821ULL};
  uint64_t state = 1234567;
  for (const uint64_t value : expected) {
    state += 0x9e3779b97f4a7c15ULL;
    EXPECT_EQ(mix64(state), value);
  }
}

TEST(Rng, ANumberCanBeHadWithoutThoseBeforeIt) {
  Rng rng(7);
  const Rng same = rng;
  for (uint64_t n = 1; n <= 100; ++n) EXPECT_EQ(rng.next(), same.at(n));
}

TEST(Rng, KeyAndCountAreTheWholeState) {
  Rng rng(3);
  for (int i = 0; i < 17; ++i) rng.next();
  Rng restored;
  restored.key = rng.key;
  restored.count = rng.count;
  for (int i = 0; i < 10; ++i) EXPECT_EQ(rng.next(), restored.next());
}

TEST(Rng, UniformNumbersFillTheirRangeEvenly) {
  Rng rng(1);
  constexpr int kDraws = 100000, kBins = 10;
  int bins[kBins] = {};
  for (int i = 0; i < kDraws; ++i) {
    const double u = rng.uniform();
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    ++bins[static_cast<int>(u * kBins)];
  }
  double chi2 = 0;
  const double expected = static_cast<double>(kDraws) / kBins;
  for (const int b : bins) chi2 += (b - expected) * (b - expected) / expected;
  EXPECT_LT(chi2, 27.9);  // 9 degrees of freedom: p = 0.001
}

TEST(Rng, BelowStaysBelow) {
  Rng rng(2);
  std::set<uint64_t> seen;
  for (int i = 0; i < 1000; ++i) {
    const uint64_t n = rng.below(7);
    ASSERT_LT(n, 7u);
    seen.insert(n);
  }
  EXPECT_EQ(seen.size(), 7u);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(rng.below(1), 0u);
}

TEST(Rng, NormalNumbersHaveTheirMoments) {
  Rng rng(5);
  constexpr int kDraws = 200000;
  double sum = 0, squares = 0, fourth = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = rng.normal();
    ASSERT_TRUE(std::isfinite(x));
    sum += x, squares += x * x, fourth += x * x * x * x;
  }
  EXPECT_NEAR(sum / kDraws, 0, 5 / std::sqrt(kDraws));  // five standard errors each
  EXPECT_NEAR(squares / kDraws, 1, 5 * std::sqrt(2.0 / kDraws));
  EXPECT_NEAR(fourth / kDraws, 3, 5 * std::sqrt(96.0 / kDraws));
}

TEST(Rng, SplitStreamsShareNothing) {
  const Rng root(9);
  std::set<uint64_t> seen;
  for (uint64_t stream = 0; stream < 100; ++stream) {
    Rng rng = root.split(stream);
    for (int i = 0; i < 100; ++i) seen.insert(rng.next());
  }
  EXPECT_EQ(seen.size(), 100u * 100u);
}

}  // namespace
}  // namespace llmtool
