// Ids against those that other programs published for the same files.

#include "llmtool/text/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
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

/// Texts with the ids that llama.cpp published for them; `lossless`: they come back from the ids.
void expect_published_ids(const Tokenizer& tokenizer, const std::filesystem::path& inputs,
                          const std::filesystem::path& outputs, bool lossless) {
  const auto texts = split(test::read_text(inputs), "\n__ggml_vocab_test__\n");
  const auto rows = split(test::read_text(outputs), "\n");
  ASSERT_GE(texts.size(), 40u);
  ASSERT_GE(rows.size(), texts.size() - 1);
  for (size_t i = 0; i + 1 < texts.size(); ++i) {
    std::vector<TokenId> expected;
    std::istringstream row(rows[i]);
    for (TokenId id; row >> id;) expected.push_back(id);
    EXPECT_EQ(tokenizer.encode(texts[i]), expected) << texts[i];
    if (!lossless) continue;
    EXPECT_EQ(tokenizer.decode(expected), texts[i]);
  }
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
  expect_published_ids(*tokenizer, inputs, outputs, true);
}

/// Vocabularies of llama.cpp with texts and their ids; the texts come back where nothing is normalized.
class LlamaCppVocabulary : public testing::TestWithParam<const char*> {};

TEST_P(LlamaCppVocabulary, GivesThePublishedIds) {
  const std::string kind = GetParam(), name = "tokenizers/llama.cpp/ggml-vocab-" + kind + ".gguf";
  REQUIRE_REFERENCE(file, name);
  REQUIRE_REFERENCE(inputs, name + ".inp");
  REQUIRE_REFERENCE(outputs, name + ".out");
  const auto tokenizer = load_tokenizer(file);
  // BERT's normalization cannot be undone.
  expect_published_ids(*tokenizer, inputs, outputs, kind != "bert-bge");
}
INSTANTIATE_TEST_SUITE_P(All, LlamaCppVocabulary, testing::Values("bert-bge", "falcon", "gpt-2", "llama-spm"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(Tiktoken, R50kGivesTheIdsOfItsTestPlans) {
  REQUIRE_REFERENCE(ranks, "tokenizers/tiktoken/r50k_base.tiktoken");
  REQUIRE_REFERENCE(plans, "tokenizers/tiktoken/TestPlans.txt");
  const auto tokenizer = load_tokenizer(ranks);
  EXPECT_EQ(tokenizer->vocab_size(), 50257);
  EXPECT_EQ(tokenizer->eos_id(), 50256);
  int count = 0;
  for (const std::string& plan : split(test::read_text(plans), "EncodingName: ")) {
    const size_t text = plan.find("Sample: "), ids = plan.find("\nEncoded: [");
    if (!plan.starts_with("r50k_base") || text == std::string::npos || ids == std::string::npos) continue;
    const std::string sample = plan.substr(text + 8, ids - text - 8);
    std::vector<TokenId> expected;
    std::istringstream list(plan.substr(ids + 11));
    for (TokenId id; list >> id; list.ignore(1)) expected.push_back(id);
    EXPECT_EQ(tokenizer->encode(sample), expected) << sample;
    EXPECT_EQ(tokenizer->decode(expected), sample);
    ++count;
  }
  EXPECT_GT(count, 50);
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
