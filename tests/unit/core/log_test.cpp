#include "llmtool/core/log.h"

#include <gtest/gtest.h>

#include <cmath>

namespace llmtool {
namespace {

TEST(HumanBytes, KeepsThreeDigitsAcrossUnits) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(999), "999 B");
  EXPECT_EQ(human_bytes(999.5), "1.00 kB");
  EXPECT_EQ(human_bytes(1234), "1.23 kB");
  EXPECT_EQ(human_bytes(12345), "12.3 kB");
  EXPECT_EQ(human_bytes(412e6), "412 MB");
  EXPECT_EQ(human_bytes(999.6e6), "1.00 GB");
  EXPECT_EQ(human_bytes(5e15), "5000 TB");
}

TEST(HumanCount, KeepsOneDecimalAcrossUnits) {
  EXPECT_EQ(human_count(0), "0");
  EXPECT_EQ(human_count(999), "999");
  EXPECT_EQ(human_count(1000), "1.0K");
  EXPECT_EQ(human_count(124.4e6), "124.4M");
  EXPECT_EQ(human_count(999.96e3), "1.0M");
}

TEST(HumanTime, RoundsToWhatOneWouldSay) {
  EXPECT_EQ(human_time(0), "0s");
  EXPECT_EQ(human_time(59.4), "59s");
  EXPECT_EQ(human_time(59.6), "1m 00s");
  EXPECT_EQ(human_time(125), "2m 05s");
  EXPECT_EQ(human_time(3600), "1h 00m");
  EXPECT_EQ(human_time(90061), "25h 01m");
}

TEST(HumanTime, AdmitsWhatItCannotKnow) {
  EXPECT_EQ(human_time(std::nan("")), "?");
  EXPECT_EQ(human_time(INFINITY), "?");
  EXPECT_EQ(human_time(-1), "?");
  EXPECT_EQ(human_time(1e300), "?");  // more seconds than an integer counts
}

}  // namespace
}  // namespace llmtool
