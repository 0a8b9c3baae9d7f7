// Every prefix of a valid file and thousands of flipped bits give an Error or an answer, never anything else.

#include <gtest/gtest.h>

#include "formats.h"
#include "llmtool/core/error.h"
#include "llmtool/core/rng.h"

namespace llmtool {
namespace {

struct Format {
  const char* name;
  std::string (*sample)();
  void (*read)(const std::filesystem::path&);
};

class Hostile : public ::testing::TestWithParam<Format> {
 protected:
  /// True where the file was read, false where it was refused; whatever else is thrown fails the test.
  bool reads(const std::string& contents) {
    file_.set(contents);
    try {
      GetParam().read(file_.path());
      return true;
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find(file_.path().string()), std::string::npos) << e.what();
      return false;
    }
  }

 private:
  test::MemoryFile file_;
};

TEST_P(Hostile, EveryPrefixIsRefused) {
  const std::string whole = GetParam().sample();
  ASSERT_TRUE(reads(whole));
  // A GGUF file may end at its header, 32 bytes before which nothing but the whole header ends.
  const bool may_end_early = std::string(GetParam().name) == "gguf";
  int read = 0;
  for (size_t n = 0; n < whole.size(); ++n) read += reads(whole.substr(0, n));
  EXPECT_EQ(read, may_end_early ? 1 : 0);
}

TEST_P(Hostile, FlippedBitsDoNoHarm) {
  const std::string whole = GetParam().sample();
  Rng rng(7);
  int refused = 0;
  for (int i = 0; i < 10'000; ++i) {
    std::string changed = whole;
    for (uint64_t flips = 1 + rng.below(3); flips > 0; --flips)
      changed[rng.below(changed.size())] ^= static_cast<char>(1 << rng.below(8));
    refused += !reads(changed);
  }
  EXPECT_GT(refused, 50);
}

TEST_P(Hostile, FlippedBitsOfTheFirstBytesDoNoHarm) {
  const std::string whole = GetParam().sample();
  for (size_t bit = 0; bit < std::min<size_t>(whole.size(), 1024) * 8; ++bit) {
    std::string changed = whole;
    changed[bit / 8] ^= static_cast<char>(1 << bit % 8);
    reads(changed);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, Hostile,
                         ::testing::Values(Format{"gguf", test::sample_gguf, test::read_whole_gguf},
                                           Format{"safetensors", test::sample_safetensors,
                                                  test::read_whole_safetensors},
                                           Format{"llama2c", test::sample_llama2c, test::read_whole_llama2c}),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace llmtool
