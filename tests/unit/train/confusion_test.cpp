#include "train/confusion.h"

#include <gtest/gtest.h>

namespace llmtool {
namespace {

/// true \ predicted: 3 1 0 / 2 4 0 / 0 0 0.
Confusion sample() {
  Confusion c({"bad", "good", "unseen"});
  const int64_t counts[2][2] = {{3, 1}, {2, 4}};
  for (int64_t t = 0; t < 2; ++t) {
    for (int64_t p = 0; p < 2; ++p) {
      for (int64_t i = 0; i < counts[t][p]; ++i) c.add(t, p);
    }
  }
  return c;
}

TEST(Confusion, GivesTheUsualMeasures) {
  const Confusion c = sample();
  EXPECT_EQ(c.count(), 10);
  EXPECT_DOUBLE_EQ(c.accuracy(), 0.7);
  EXPECT_DOUBLE_EQ(c.precision(0), 3.0 / 5);
  EXPECT_DOUBLE_EQ(c.recall(0), 3.0 / 4);
  EXPECT_DOUBLE_EQ(c.f1(0), 2 * 0.6 * 0.75 / (0.6 + 0.75));
  EXPECT_DOUBLE_EQ(c.precision(1), 4.0 / 5);
  EXPECT_DOUBLE_EQ(c.recall(1), 4.0 / 6);
  // A class that neither is there nor was predicted says nothing.
  EXPECT_DOUBLE_EQ(c.macro_f1(), (c.f1(0) + c.f1(1)) / 2);
  EXPECT_EQ(c.rows().dump(), "[[3,1,0],[2,4,0],[0,0,0]]");
}

TEST(Confusion, PrintsATable) {
  EXPECT_EQ(sample().text(),
            "  true \\ predicted  bad  good  unseen  precision  recall     F1\n"
            "  bad                 3     1       0      0.600   0.750  0.667\n"
            "  good                2     4       0      0.800   0.667  0.727\n"
            "  unseen              0     0       0      0.000   0.000  0.000");
}

}  // namespace
}  // namespace llmtool
