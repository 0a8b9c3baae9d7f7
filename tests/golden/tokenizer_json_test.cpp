// Tokenizers of every kind against the tokenizers library (tests/reference/check_tokenizers.py --goldens).

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "llmtool/text/tokenizer.h"
#include "support.h"

namespace llmtool {
namespace {

std::vector<std::string> kinds() {
  std::vector<std::string> names;
  for (const auto& entry :
       std::filesystem::directory_iterator(test::source_file("tests/reference/goldens_tokenizers")))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

class TokenizerJson : public testing::TestWithParam<std::string> {
 protected:
  std::filesystem::path folder = test::source_file("tests/reference/goldens_tokenizers/" + GetParam());

  void check(const char* rows, const EncodeOptions& options) {
    const auto tokenizer = load_tokenizer(folder / "tokenizer.json");
    std::ifstream in(folder / rows);
    int count = 0;
    for (std::string line; std::getline(in, line); ++count) {
      const nlohmann::json row = nlohmann::json::parse(line);
      const auto text = row.at("text").get<std::string>();
      const auto ids = row.at("ids").get<std::vector<TokenId>>();
      EXPECT_EQ(tokenizer->encode(text, options), ids) << rows << " " << count << ": " << text;
      EXPECT_EQ(tokenizer->decode(ids), row.at("decoded").get<std::string>()) << rows << " " << count;
    }
    EXPECT_EQ(count, 40);
  }
};

TEST_P(TokenizerJson, GivesTheIdsAndTextsOfTheReference) {
  check("with_special.jsonl", {.add_special_tokens = true, .parse_special = true});
  check("without_special.jsonl", {.add_special_tokens = false, .parse_special = false});
}

/// The text that has come out so far is always whole characters, and in the end all of it.
TEST_P(TokenizerJson, StreamsWholeCharacters) {
  const auto tokenizer = load_tokenizer(folder / "tokenizer.json");
  std::ifstream in(folder / "with_special.jsonl");
  for (std::string line; std::getline(in, line);) {
    const auto ids = nlohmann::json::parse(line).at("ids").get<std::vector<TokenId>>();
    StreamDecoder decoder(*tokenizer);
    std::string text;
    for (const TokenId id : ids) {
      text += decoder.push(id);
      EXPECT_NO_THROW(nlohmann::json(text).dump()) << "half a character";
    }
    EXPECT_EQ(text + decoder.finish(), tokenizer->decode(ids));
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, TokenizerJson, testing::ValuesIn(kinds()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace llmtool
