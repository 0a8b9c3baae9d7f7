// Ids against those that other programs published for the same files.

#include "llmtool/text/tokenizer.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "support.h"

namespace llmtool {
namespace {

std::vector<std::string> split(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts;
  size_t from = 0;
  for (size_t at; (at = text.find(separator, from)) != std::string::npos; from = at + separator.size()) {
    parts.push_back(text.substr(from, at - from));
  }
  parts.push_back(text.substr(from));
  return parts;
}

TEST(Llama2Tokenizer, GivesTheIdsThatLlamaCppPublished) {
  REQUIRE_REFERENCE(file, "tokenizers/llama2/tokenizer.model");
  REQUIRE_REFERENCE(inputs, "tokenizers/llama.cpp/ggml-vocab-llama-spm.gguf.inp");
  REQUIRE_REFERENCE(outputs, "tokenizers/llama.cpp/ggml-vocab-llama-spm.gguf.out");
  const auto tokenizer = load_tokenizer(file);
  EXPECT_EQ(tokenizer->vocab_size(), 32000);
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_EQ(tokenizer->eos_id(), 2);
  EXPECT_TRUE(tokenizer->adds_bos());
  const auto texts = split(test::read_text(inputs), "\n__ggml_vocab_test__\n");
  const auto rows = split(test::read_text(outputs), "\n");
  ASSERT_GE(texts.size(), 40u);
  ASSERT_GE(rows.size(), texts.size() - 1);
  for (size_t i = 0; i + 1 < texts.size(); ++i) {
    std::vector<TokenId> expected;
    std::istringstream row(rows[i]);
    for (TokenId id; row >> id;) expected.push_back(id);
    EXPECT_EQ(tokenizer->encode(texts[i]), expected) << texts[i];
    EXPECT_EQ(tokenizer->decode(expected), texts[i]);
  }
}

TEST(Stories260K, TheTokenizerGivesTheIdsOfItsMaker) {
  REQUIRE_REFERENCE(folder, "weights/stories260K");
  const auto tokenizer = load_tokenizer(folder / "hf");
  for (const char* name : {"once", "sample0", "sample1", "sample2", "sample3", "sample4"}) {
    const std::string text = test::read_text(folder / "expected" / (std::string(name) + ".txt"));
    std::vector<TokenId> expected;
    std::ifstream in(folder / "expected" / (std::string(name) + ".ids.txt"));
    for (TokenId id; in >> id;) expected.push_back(id);
    std::vector<TokenId> found = tokenizer->encode(text);
    found.insert(found.begin(), tokenizer->bos_id());
    EXPECT_EQ(found, expected) << name;
  }
}

}  // namespace
}  // namespace llmtool
