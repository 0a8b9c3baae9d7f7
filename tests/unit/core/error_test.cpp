#include "llmtool/core/error.h"

#include <gtest/gtest.h>

#include <vector>

namespace llmtool {
namespace {

std::string nearest_of(const std::string& word, const std::vector<std::string>& candidates) {
  return nearest(word, candidates.data(), candidates.size());
}

TEST(Nearest, FindsTheWordThatWasMeant) {
  const std::vector<std::string> keys = {"max_steps", "batch_size", "learning_rate", "seed"};
  EXPECT_EQ(nearest_of("max_step", keys), "max_steps");
  EXPECT_EQ(nearest_of("lerning_rate", keys), "learning_rate");
  EXPECT_EQ(nearest_of("batchsize", keys), "batch_size");
  EXPECT_EQ(nearest_of("seed", keys), "seed");
}

TEST(Nearest, IsSilentWhereNothingIsNear) {
  EXPECT_EQ(nearest_of("zzzzzz", {"max_steps", "seed"}), "");
  EXPECT_EQ(nearest_of("x", {}), "");
  EXPECT_EQ(nearest_of("", {"max_steps"}), "");
}

TEST(Cat, WritesItsArgumentsOneAfterAnother) {
  EXPECT_EQ(cat("a", 1, ' ', 2.5, std::string("b")), "a1 2.5b");
}

TEST(UsageError, IsAnError) { EXPECT_THROW(throw UsageError("x"), Error); }

}  // namespace
}  // namespace llmtool
