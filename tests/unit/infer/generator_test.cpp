// Answers: the text as it grows, and where it ends.

#include "llmtool/infer/generator.h"

#include <gtest/gtest.h>

#include <cstring>

#include "llmtool/core/error.h"
#include "llmtool/core/rng.h"
#include "llmtool/infer/draft.h"
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
  static ModelConfig config(int64_t context = 32) {
    ModelConfig c;
    c.vocab_size = 40;
    c.hidden_size = 16;
    c.num_hidden_layers = 2;
    c.num_attention_heads = 2;
    c.max_position_embeddings = context;
    c.initializer_range = 0.5;
    return c;
  }
  explicit Answers(int64_t context = 32) : model(config(context)) { model.initialize(1); }

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

/// Drafts of the text itself and of a model, good and bad ones, change the speed alone.
TEST_F(Answers, SpeculationChangesNoToken) {
  Transformer stranger(config());
  stranger.initialize(2);
  prompts.push_back({3, 4, 5, 3, 4, 5, 3, 4});
  for (const double temperature : {0.0, 0.3, 1.0}) {
    GenerationOptions options;
    options.sampling.temperature = temperature;
    options.sampling.repetition_penalty = 0.7;  // loops, which can be looked up
    options.max_new_tokens = 24;
    options.num_samples = 2;
    options.stop_ids = {7};
    options.logprobs = 2;
    options.batch_size = 3;
    const auto expected = run(options);
    int64_t accepted = 0;
    const auto check = [&](const char* what) {
      const auto found = run(options);
      ASSERT_EQ(found.size(), expected.size());
      int64_t drafted = 0;
      for (size_t i = 0; i < found.size(); ++i) {
        EXPECT_EQ(found[i].ids, expected[i].ids) << what << i;
        EXPECT_EQ(found[i].logprobs, expected[i].logprobs) << what << i;
        EXPECT_EQ(found[i].finish_reason, expected[i].finish_reason);
        drafted += found[i].drafted;
        accepted += found[i].accepted;
        EXPECT_LE(found[i].accepted, found[i].drafted);
      }
      EXPECT_GT(drafted, 0) << what;
    };
    for (const int64_t n : {1, 5}) {
      options.draft_tokens = n;
      options.look_up = true;
      check("lookup");
      options.look_up = false;
      options.draft_model = &stranger;
      check("stranger");
      accepted = 0;
      options.draft_model = &model;
      check("itself");
      EXPECT_GT(accepted, 0);
      options.draft_model = nullptr;
    }
  }
}

TEST(LookUp, FollowsTheLongestEndThatStoodBefore) {
  const auto found = [](std::vector<TokenId> text, int64_t most) { return look_up(text, most); };
  using Ids = std::vector<TokenId>;
  EXPECT_EQ(found({1, 2, 3, 4, 9, 1, 2}, 3), (Ids{3, 4, 9}));
  EXPECT_EQ(found({1, 2, 3, 5, 2, 3, 7, 1, 2, 3}, 2), (Ids{5, 2}));  // three tokens before the later two
  EXPECT_EQ(found({1, 2, 3, 1, 2, 4, 1, 2}, 1), (Ids{4}));           // the last of equals
  EXPECT_EQ(found({8, 1, 2, 1, 2}, 5), (Ids{1, 2, 1, 2, 1}));        // round and round
  EXPECT_EQ(found({1, 2, 3}, 4), Ids{});
  EXPECT_EQ(found({1, 2, 3, 4, 4}, 4), Ids{});
  EXPECT_EQ(found({}, 4), Ids{});
  EXPECT_EQ(found({5, 5, 5}, 2), (Ids{5, 5}));
  EXPECT_EQ(found({1, 2, 1, 2}, 0), Ids{});
}

/// The model's own weights with fewer rows of the embedding, and with more, whose tokens would be likely.
TEST_F(Answers, ADraftModelMayBePaddedOtherwise) {
  GenerationOptions options;
  options.max_new_tokens = 24;
  for (const double temperature : {0.0, 1.0}) {
    options.sampling.temperature = temperature;
    options.draft_model = nullptr;
    const auto expected = run(options);
    for (const int64_t V : {20, 39, 48}) {
      ModelConfig c = config();
      c.vocab_size = V;
      Transformer padded(c);
      padded.initialize(3);
      auto own = model.params().list().begin();
      for (Param& p : padded.params().list()) {
        const size_t n = std::min(p.value.bytes(), own->value.bytes());
        std::memcpy(p.value.data, (own++)->value.data, n);
      }
      options.draft_model = &padded;
      const auto found = run(options);
      ASSERT_EQ(found.size(), expected.size());
      int64_t accepted = 0;
      for (size_t i = 0; i < found.size(); ++i) {
        EXPECT_EQ(found[i].ids, expected[i].ids) << V;
        EXPECT_EQ(found[i].logprobs, expected[i].logprobs) << V;
        accepted += found[i].accepted;
      }
      // Of half the tokens few answers go far.
      if (V > 20) {
        EXPECT_GT(accepted, 0) << V;
      }
    }
  }
}

/// Prompts that begin alike are read once, with the bits that they have alone.
TEST_F(Answers, ASharedBeginningIsReadOnce) {
  prompts.clear();
  std::vector<TokenId> header;
  for (TokenId i = 0; i < 20; ++i) header.push_back(i * 7 % 40);
  for (TokenId i = 0; i < 5; ++i) {
    prompts.push_back(header);
    for (TokenId j = 0; j <= i; ++j) prompts.back().push_back(30 + i);
  }
  prompts.push_back(prompts[2]);
  GenerationOptions options;
  options.sampling.temperature = 0;
  options.max_new_tokens = 6;
  options.logprobs = 1;
  const auto all = prompts;
  for (const DType type : {DType::f32, DType::f16}) {
    options.kv_cache_type = type;
    options.batch_size = 3;
    prompts = all;
    const auto together = run(options);
    for (size_t i = 0; i < all.size(); ++i) {
      prompts = {all[i]};
      const auto alone = run(options)[0];
      EXPECT_EQ(alone.prompt_copied, 0);
      EXPECT_GE(together[i].prompt_copied, i > 0 ? 20 : 0) << i;
      EXPECT_EQ(alone.ids, together[i].ids) << i;
      EXPECT_EQ(alone.logprobs, together[i].logprobs) << i;
    }
  }
}

/// A conversation: every prompt is the one before with its answer and more behind it.
TEST_F(Answers, TheNextRunBeginsWithWhatTheLastOneKept) {
  ThreadPool pool(2);
  GenerationOptions options;
  options.sampling.temperature = 0;
  options.max_new_tokens = 4;
  options.logprobs = 0;
  Generator chat(model, nullptr, pool, options);
  std::vector<TokenId> text(17, 3);
  for (int turn = 0; turn < 3; ++turn) {
    const auto answer = [&](Generator& generator, bool stops) {
      bool given = false;
      GenerationResult result;
      generator.run(
          [&](GenerationRequest& request) {
            request = {"", text};
            return !std::exchange(given, true);
          },
          [&](const GenerationResult& r) {
            result = r;
            if (stops) throw Error("the listener has gone");
          });
      return result;
    };
    Generator fresh(model, nullptr, pool, options);
    if (turn == 1) {
      EXPECT_THROW(answer(chat, true), Error);
    }
    const GenerationResult expected = answer(fresh, false), found = answer(chat, false);
    EXPECT_EQ(found.ids, expected.ids) << turn;
    EXPECT_EQ(found.logprobs, expected.logprobs) << turn;
    EXPECT_EQ(expected.prompt_copied, 0);
    EXPECT_GE(found.prompt_copied, turn == 0 ? 0 : 16);
    text.insert(text.end(), found.ids.begin(), found.ids.end());
    text.push_back(turn);
  }
}

TEST_F(Answers, EndAsTheyAreOnceTheyAreToStop) {
  GenerationOptions options;
  options.sampling.temperature = 0;
  options.max_new_tokens = 20;
  options.batch_size = 2;
  options.logprobs = 0;
  const auto whole = run(options);
  for (const bool beams : {false, true}) {
    for (const int64_t several : {1, 3}) {
      GenerationOptions stopping = options;
      (beams ? stopping.num_beams : stopping.best_of) = several;
      int asked = 0;
      stopping.stop_wanted = [&] { return ++asked > 12; };
      const auto found = run(stopping);
      ASSERT_FALSE(found.empty());
      EXPECT_LT(found.size(), prompts.size());
      const GenerationResult& first = found[0];
      EXPECT_EQ(first.finish_reason, "stopped");
      EXPECT_GT(first.ids.size(), 2u);
      EXPECT_LT(first.ids.size(), 20u);
      if (beams && several > 1) continue;  // its own way of choosing
      const auto begin = whole[0].ids.begin();
      EXPECT_EQ(first.ids, std::vector(begin, begin + static_cast<std::ptrdiff_t>(first.ids.size())));
    }
  }
}

class LongPrompts : public Answers {
 protected:
  LongPrompts() : Answers(2048) { prompts = {std::vector<TokenId>(1500, 3)}; }
};

TEST_F(LongPrompts, AreNotReadOnOnceThatIsToStop) {
  GenerationOptions options;
  options.sampling.temperature = 0;
  options.max_new_tokens = 3;
  options.logprobs = 0;
  const auto whole = run(options);
  for (const bool echo : {false, true}) {
    options.echo = echo;
    int asked = 0;
    options.stop_wanted = [&] { return ++asked > 2; };  // at the second piece
    EXPECT_TRUE(run(options).empty());
    EXPECT_LT(asked, 6);
    options.stop_wanted = [] { return false; };
    const auto found = run(options);
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0].ids, whole[0].ids);
    EXPECT_EQ(found[0].logprobs, whole[0].logprobs);
  }
}

TEST_F(Answers, AnEmptyPromptIsRefused) {
  prompts = {{}};
  EXPECT_THROW(run({}), UsageError);
}

}  // namespace
}  // namespace llmtool
