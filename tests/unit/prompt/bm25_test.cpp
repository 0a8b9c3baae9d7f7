// BM25 by hand.

#include "llmtool/prompt/bm25.h"

#include <gtest/gtest.h>

#include <cmath>

namespace llmtool {
namespace {

using Words = std::vector<std::string>;

TEST(Words, AreFoldedRunsOfLetters) {
  EXPECT_EQ(words_of("The CAT's  3 hats, (no)!"), (Words{"the", "cat", "s", "3", "hats", "no"}));
  EXPECT_EQ(words_of("ÄPFEL ﬁn Ⅳ"), (Words{"äpfel", "fin", "iv"}));  // lower case, NFKC
  EXPECT_EQ(words_of("  ...  "), Words{});
  EXPECT_EQ(words_of("a\xff"
                     "b"),
            (Words{"a", "b"}));
}

TEST(Bm25, IsTheFormula) {
  const Bm25Index index({"the cat", "the dog sat", "a bird, a Bird and a bird"});
  const double mean = 12.0 / 3;
  const auto part = [&](double documents_with, double often, double length) {
    const double idf = std::log(1 + (3 - documents_with + 0.5) / (documents_with + 0.5));
    return idf * often * 2.2 / (often + 1.2 * (0.25 + 0.75 * length / mean));
  };
  const std::vector<double> cat = index.scores("CAT");
  EXPECT_NEAR(cat[0], 1.2330425, 1e-6);  // ln(8/3) * 2.2 / 1.75
  EXPECT_NEAR(cat[0], part(1, 1, 2), 1e-12);
  EXPECT_EQ(cat[1], 0);
  EXPECT_EQ(cat[2], 0);
  const std::vector<double> more = index.scores("the bird and the bird");
  EXPECT_NEAR(more[0], 2 * part(2, 1, 2), 1e-12);
  EXPECT_NEAR(more[1], 2 * part(2, 1, 3), 1e-12);
  EXPECT_NEAR(more[2], 2 * part(1, 3, 7) + part(1, 1, 7), 1e-12);
  EXPECT_GT(more[0], more[1]);  // the shorter one
}

TEST(Bm25, NothingIsNothing) {
  EXPECT_TRUE(Bm25Index({}).scores("x").empty());
  EXPECT_EQ(Bm25Index({"", "a"}).scores(""), (std::vector<double>{0, 0}));
}

}  // namespace
}  // namespace llmtool
