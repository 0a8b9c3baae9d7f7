// Answers: the text as it grows, and where it ends.

#include "llmtool/infer/generator.h"

#include <gtest/gtest.h>

#include "llmtool/core/error.h"
#include "llmtool/core/rng.h"
#include "llmtool/text/train_tokenizer.h"
#include "support.h"

namespace llmtool {
namespace {

/// A tokenizer of single characters.
class Letters : public ::testing::Test {
 protected:
  Letters() {
    TokenizerTraining s;
    s.model_type = "char";
    s.vocab_size = 0;
    bool given = false;
    const auto result = train_tokenizer(s, [&](std::string_view& text) {
      text = "abcdef";
      return !std::exchange(given, true);
    });
    test::write_text(place / "tokenizer.model", result.model);
    tokenizer = load_tokenizer(place / "tokenizer.model");
  }
  test::TempFolder place;
  std::shared_ptr<const Tokenizer> tokenizer;
};

struct Heard {
  std::string text;
  bool stopped;
};

TEST_F(Letters, AnAnswerEndsBeforeTheFirstStopString) {
  const auto hear = [&](const std::string& text, const std::vector<std::string>& stops) {
    AnswerText answer(tokenizer.get(), stops);
    std::string heard;
    for (const TokenId id : tokenizer->encode(text)) {
      if (answer.stopped()) break;
      heard += answer.push(id);
    }
    heard += answer.finish();
    EXPECT_EQ(heard, answer.text());
    return Heard{heard, answer.stopped()};
  };
  EXPECT_EQ(hear("abcabd", {"abd"}).text, "abc");
  EXPECT_TRUE(hear("abcabd", {"abd"}).stopped);
  EXPECT_EQ(hear("abab", {"abc"}).text, "abab");
  EXPECT_FALSE(hear("abab", {"abc"}).stopped);
  EXPECT_EQ(hear("aabaac", {"aac", "zz"}).text, "aab");
  EXPECT_EQ(hear("abcdef", {"cd", "bcde"}).text, "ab");  // complete first
  EXPECT_EQ(hear("abcdef", {"f", "a"}).text, "");
  EXPECT_EQ(hear("abc", {}).text, "abc");
}

TEST_F(Letters, WhatIsHandedOutIsNeverTakenBack) {
  Rng rng(1);
  for (int round = 0; round < 300; ++round) {
    std::string text, stop;
    for (int i = 0; i < 30; ++i) text += static_cast<char>('a' + rng.below(2));
    for (uint64_t i = 0; i < 2 + rng.below(4); ++i) stop += static_cast<char>('a' + rng.below(2));
    const std::vector<std::string> stops = {stop};
    AnswerText kept(tokenizer.get(), stops);
    std::string heard;
    for (const TokenId id : tokenizer->encode(text)) {
      if (kept.stopped()) break;
      heard += kept.push(id);
      EXPECT_EQ(text.compare(0, heard.size(), heard), 0);
    }
    heard += kept.finish();
    EXPECT_EQ(heard, text.substr(0, text.find(stop)));
  }
}

class Answers : public ::testing::Test {
 protected:
  static ModelConfig config() {
    ModelConfig c;
    c.vocab_size = 40;
    c.hidden_size = 16;
    c.num_hidden_layers = 2;
    c.num_attention_heads = 2;
    c.max_position_embeddings = 32;
    c.initializer_range = 0.5;
    return c;
  }
  Answers() : model(config()) { model.initialize(1); }

  std::vector<GenerationResult> run(const GenerationOptions& options, int threads = 2) const {
    ThreadPool pool(threads);
    Generator generator(model, nullptr, pool, options);
    std::vector<GenerationResult> results;
    size_t next = 0;
    generator.run(
        [&](GenerationRequest& request) {
          if (next == prompts.size()) return false;
          request = {"", prompts[next++]};
          return true;
        },
        [&](const GenerationResult& r) { results.push_back(r); });
    return results;
  }

  Transformer model;
  std::vector<std::vector<TokenId>> prompts = {{1, 2, 3}, {4}, {5, 6, 7, 8, 9, 10, 11}, {1, 2, 3}, {12, 30}};
};

TEST_F(Answers, DoNotDependOnThreadsOrCompany) {
  GenerationOptions options;
  options.sampling.temperature = 1;
  options.max_new_tokens = 20;
  options.num_samples = 3;
  options.stop_ids = {7};
  options.logprobs = 2;
  options.batch_size = 1;
  const auto expected = run(options, 1);
  ASSERT_EQ(expected.size(), 15u);
  for (const int64_t batch : {2, 4, 64}) {
    options.batch_size = batch;
    const auto found = run(options, static_cast<int>(batch));
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(found[i].index, static_cast<int64_t>(i / 3));
      EXPECT_EQ(found[i].sample, static_cast<int64_t>(i % 3));
      EXPECT_EQ(found[i].ids, expected[i].ids);
      EXPECT_EQ(found[i].logprobs, expected[i].logprobs);
      EXPECT_EQ(found[i].finish_reason, expected[i].finish_reason);
    }
  }
  EXPECT_NE(expected[0].ids, expected[1].ids);
  EXPECT_NE(expected[0].ids, expected[9].ids) << "the same prompt, but another number";
}

TEST_F(Answers, GreedyTakesTheLikeliestAndStopsAtTheStopId) {
  GenerationOptions options;
  options.sampling.temperature = 0;
  options.max_new_tokens = 10;
  options.logprobs = 1;
  const auto all = run(options);
  for (const auto& r : all) {
    ASSERT_EQ(r.ids.size(), 10u);
    EXPECT_EQ(r.finish_reason, "length");
    for (size_t i = 0; i < 10; ++i) {
      EXPECT_EQ(r.top_logprobs[i][0].first, r.ids[i]);
      EXPECT_EQ(r.top_logprobs[i][0].second, r.logprobs[i]);
      EXPECT_LE(r.logprobs[i], 0);
    }
  }
  options.stop_ids = {all[0].ids[3]};
  const auto stopped = run(options);
  EXPECT_EQ(stopped[0].finish_reason, "stop");
  EXPECT_LE(stopped[0].ids.size(), 3u);
}

TEST_F(Answers, AFullContextEndsThem) {
  GenerationOptions options;
  options.max_new_tokens = 1000;
  options.sampling.temperature = 1;
  for (const auto& r : run(options)) {
    EXPECT_EQ(r.prompt_ids.size() + r.ids.size(), 33u);  // the last one needs no place
    EXPECT_EQ(r.finish_reason, "length");
  }
  prompts = {std::vector<TokenId>(32, 1)};
  EXPECT_EQ(run(options)[0].ids.size(), 1u);
  prompts = {std::vector<TokenId>(33, 1)};
  try {
    run(options);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("33 tokens"), std::string::npos);
    EXPECT_NE(std::string(e.what()).find("context of 32"), std::string::npos);
  }
  options.truncate_left = true;
  options.max_new_tokens = 5;
  prompts = {{}};
  for (TokenId i = 0; i < 39; ++i) prompts[0].push_back(i);
  const auto cut = run(options);
  EXPECT_EQ(cut[0].prompt_ids.size(), 27u);
  EXPECT_EQ(cut[0].prompt_ids.back(), 38);
  EXPECT_EQ(cut[0].ids.size(), 5u);
}

TEST_F(Answers, AnEmptyPromptIsRefused) {
  prompts = {{}};
  EXPECT_THROW(run({}), UsageError);
}

}  // namespace
}  // namespace llmtool
