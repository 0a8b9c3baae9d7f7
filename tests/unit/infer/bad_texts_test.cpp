// BadTexts against texts that are searched as a whole.

#include "llmtool/infer/bad_texts.h"

#include <gtest/gtest.h>

#include "llmtool/core/error.h"
#include "llmtool/core/rng.h"
#include "llmtool/infer/sampler.h"
#include "support.h"

namespace llmtool {
namespace {

constexpr const char* kNames[] = {"weights/stories260K/hf", "tokenizers/llama2/tokenizer.model",
                                  "tokenizers/llama.cpp/ggml-vocab-bert-bge.gguf",
                                  "tokenizers/llama.cpp/ggml-vocab-gpt-2.gguf"};

/// Walks that choose among what may come, mostly what takes a bad text further.
void walk(const Tokenizer& tokenizer, const std::vector<std::string>& texts, Rng& rng) {
  const BadTexts bad(tokenizer, texts);
  const auto has_one = [&](const std::string& text) {
    return std::any_of(texts.begin(), texts.end(),
                       [&](const std::string& one) { return text.find(one) != std::string::npos; });
  };
  std::vector<TokenId> tokens;
  if (rng.below(2) == 0 && tokenizer.bos_id() >= 0) tokens.push_back(tokenizer.bos_id());
  std::string text;
  bool at_start = true;
  for (int step = tokenizer.vocab_size() > 1000 ? 8 : 0; step < 12; ++step) {
    const std::vector<bool> ending = bad.ending(tokens);
    ASSERT_EQ(ending.size(), static_cast<size_t>(tokenizer.vocab_size()));
    std::vector<TokenId> good, near;
    for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
      if (tokenizer.is_special(id)) {
        ASSERT_FALSE(ending[static_cast<size_t>(id)]);
        continue;
      }
      const std::string added = tokenizer.surface(id, at_start), whole = text + added;
      ASSERT_EQ(ending[static_cast<size_t>(id)], has_one(whole)) << tokenizer.kind() << ": " << whole;
      if (has_one(whole)) continue;
      good.push_back(id);
      const bool begins =
          !added.empty() && std::any_of(texts.begin(), texts.end(), [&](const std::string& one) {
            return whole.ends_with(one.substr(0, 1)) || whole.ends_with(one.substr(0, one.size() - 1));
          });
      if (begins) near.push_back(id);
    }
    const auto& from = !near.empty() && rng.below(4) > 0 ? near : good;
    tokens.push_back(from[rng.below(from.size())]);
    text += tokenizer.surface(tokens.back(), at_start);
    at_start = false;
  }
}

TEST(BadTexts, AreFoundInAllSpellings) {
  int found = 0;
  Rng rng(7);
  for (const char* name : kNames) {
    const auto path = test::reference_data(name);
    if (path.empty() || !has_tokenizer(path)) continue;
    ++found;
    const auto tokenizer = load_tokenizer(path);
    for (int round = 0; round < (tokenizer->vocab_size() > 1000 ? 1 : 10); ++round) {
      walk(*tokenizer, {"the"}, rng);
      walk(*tokenizer, {" a", "ana", "\xC3\xA9t", "e", "nab"}, rng);
    }
  }
  if (found == 0) GTEST_SKIP();
  EXPECT_EQ(found, 4);
}

TEST(BadTexts, AreRuledOutBesideSequencesOfIds) {
  const auto path = test::reference_data(kNames[0]);
  if (path.empty()) GTEST_SKIP();
  const auto tokenizer = load_tokenizer(path);
  SamplingOptions o;
  o.temperature = 1;
  o.bad_texts = std::make_shared<const BadTexts>(*tokenizer, std::vector<std::string>{"cat"});
  o.bad_words = {{5}};
  EXPECT_TRUE(o.looks_back());
  EXPECT_EQ(o.description(), "bad_words of 1 sequences, bad_words of 1 texts");
  TokenHistory history;
  history.read(tokenizer->encode("the c"));
  history.add(tokenizer->encode_rest("a").at(0));
  const std::vector<float> logits(static_cast<size_t>(tokenizer->vocab_size()) + 9, 0.5f);
  const std::vector<bool> ending = o.bad_texts->ending(history.tokens);
  size_t kept = 0;
  for (const auto& [id, probability] : candidates(logits, o, history)) {
    EXPECT_TRUE(id != 5 && (static_cast<size_t>(id) >= ending.size() || !ending[static_cast<size_t>(id)]))
        << id;
    ++kept;
  }
  const auto bad = static_cast<size_t>(std::count(ending.begin(), ending.end(), true));
  EXPECT_GT(bad, 1u);
  EXPECT_EQ(kept, logits.size() - bad - 1);
}

TEST(BadTexts, AnEmptyOneIsWrongUsage) {
  const auto path = test::reference_data(kNames[0]);
  if (path.empty()) GTEST_SKIP();
  EXPECT_THROW(BadTexts(*load_tokenizer(path), {"a", ""}), UsageError);
}

}  // namespace
}  // namespace llmtool
