// Prompt caches: the same answers with and without, and nothing from a file that is not this model's.

#include "llmtool/infer/prompt_cache.h"

#include <gtest/gtest.h>

#include "llmtool/core/error.h"
#include "llmtool/core/workspace.h"
#include "llmtool/infer/generator.h"
#include "llmtool/io/files.h"
#include "support.h"

namespace llmtool {
namespace {

class PromptCache : public ::testing::Test {
 protected:
  static ModelConfig config() {
    ModelConfig c = ModelConfig::of_family("gemma2");
    c.vocab_size = 40;
    c.hidden_size = 32;
    c.intermediate_size = 32;
    c.num_hidden_layers = 2;
    c.num_attention_heads = 1;
    c.head_dim = 32;
    c.max_position_embeddings = 1000;
    c.sliding_window = 8;
    c.initializer_range = 0.3;
    return c;
  }
  PromptCache() : model(config()) { model.initialize(1); }

  GenerationResult answer(const std::vector<TokenId>& prompt, bool cached, const Transformer* of = nullptr) {
    options.prompt_cache = cached ? file.string() : "";
    options.sampling.temperature = 0;
    options.max_new_tokens = 8;
    options.logprobs = 1;
    Generator generator(of ? *of : model, nullptr, pool, options);
    bool given = false;
    GenerationResult result;
    generator.run(
        [&](GenerationRequest& request) {
          request = {"", prompt};
          return !std::exchange(given, true);
        },
        [&](const GenerationResult& r) { result = r; });
    return result;
  }
  static std::vector<TokenId> prompt(size_t n, TokenId last) {
    std::vector<TokenId> ids;
    for (size_t i = 0; i < n; ++i) ids.push_back(static_cast<TokenId>(i * 7 % 40));
    ids.push_back(last);
    return ids;
  }
  std::string refusal(const std::string& bytes, const PromptCacheKey& key) {
    try {
      read_prompt_cache(std::as_bytes(std::span(bytes)), "it", key, model.config(), {}, false);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }

  test::TempFolder place;
  std::filesystem::path file = place / "header.kv";
  Transformer model;
  ThreadPool pool{2};
  GenerationOptions options;
};

TEST_F(PromptCache, AnswersAreTheSameWithAndWithout) {
  for (const DType type : {DType::f32, DType::f16, DType::q8_0}) {
    options.kv_cache_type = type;
    std::filesystem::remove(file);
    for (const size_t n : {30, 700}) {  // the second is longer than the window's ring
      for (const TokenId last : {3, 3, 9}) {
        const auto text = prompt(n, last);
        const GenerationResult plain = answer(text, false), cached = answer(text, true);
        EXPECT_EQ(cached.ids, plain.ids) << dtype_name(type) << n;
        EXPECT_EQ(cached.logprobs, plain.logprobs);
        EXPECT_TRUE(std::filesystem::exists(file));
      }
      EXPECT_EQ(answer(prompt(n, 9), true).prompt_copied, static_cast<int64_t>(n));
      EXPECT_EQ(answer(prompt(n, 5), true).prompt_copied, static_cast<int64_t>(n));
    }
  }
}

TEST_F(PromptCache, AHeaderStaysWhateverComesBetween) {
  const auto copied = [&](const std::vector<TokenId>& text) { return answer(text, true).prompt_copied; };
  const std::vector<TokenId> unrelated(50, 39);
  answer({38, 38, 38}, true);
  answer(prompt(20, 1), true);  // nothing is lost: three ids are not worth copying
  EXPECT_EQ(copied(prompt(20, 2)), 20);
  const std::string bytes = read_file(file);
  EXPECT_EQ(copied(unrelated), 0);
  EXPECT_EQ(copied(prompt(20, 3)), 20);
  EXPECT_EQ(read_file(file), bytes) << "was written again";
  EXPECT_EQ(copied(prompt(100, 4)), 20);  // goes on, and is twice as long
  EXPECT_EQ(copied(prompt(100, 5)), 100);
}

TEST_F(PromptCache, NoAnswerDependsOnWriting) {
  const GenerationResult plain = answer(prompt(30, 1), false);
  file = place / "no" / "header.kv";
  EXPECT_EQ(answer(prompt(30, 1), true).ids, plain.ids);
  EXPECT_FALSE(std::filesystem::exists(file));
}

TEST_F(PromptCache, WhatIsNoFileIsRefused) {
  for (const std::filesystem::path& other : {std::filesystem::path("/dev/null"), place.path()}) {
    file = other;
    try {
      answer(prompt(30, 1), true);
      ADD_FAILURE() << other;
    } catch (const Error& e) {
      EXPECT_EQ(e.what(), other.string() + ": expected a file");
    }
  }
}

TEST_F(PromptCache, AFileOfAnotherModelIsRefused) {
  answer(prompt(30, 1), true);
  Transformer other(config());
  other.initialize(2);
  try {
    answer(prompt(30, 1), true, &other);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("another model"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("delete it"), std::string::npos);
  }
  options.kv_cache_type = DType::f16;
  EXPECT_THROW(answer(prompt(30, 1), true), Error);
}

TEST_F(PromptCache, AnyChangeIsFound) {
  ReadText text{prompt(20, 1), std::make_shared<KvCache>(model.config(), 21)};
  Workspace workspace(pool);
  workspace.run([&](Exec& exec) { model.forward(exec, text.ids, *text.cache, {}); });
  const PromptCacheKey key{1, 2, DType::f32};
  const std::string bytes = prompt_cache_bytes(key, text);
  EXPECT_EQ(refusal(bytes, key), "");
  EXPECT_NE(refusal(bytes, {1, 3, DType::f32}).find("another tokenizer"), std::string::npos);
  EXPECT_NE(refusal(bytes, {1, 2, DType::f16}).find("--kv-cache-type"), std::string::npos);
  for (size_t i = 0; i < bytes.size(); i += i < 80 ? 1 : 97) {
    std::string changed = bytes;
    changed[i] = static_cast<char>(changed[i] ^ 4);
    EXPECT_NE(refusal(changed, key), "") << i;
  }
  for (const size_t n : {size_t{0}, size_t{63}, size_t{64}, bytes.size() - 1})
    EXPECT_NE(refusal(bytes.substr(0, n), key), "") << n;
  EXPECT_NE(refusal(bytes + "x", key), "");
}

TEST_F(PromptCache, TheFingerprintSeesWeightsAndConfig) {
  const uint64_t own = fingerprint_of(model, pool);
  EXPECT_EQ(own, fingerprint_of(model, pool));
  ModelConfig c = config();
  c.rope_theta = 20000;
  Transformer other(c);
  other.initialize(1);
  EXPECT_NE(own, fingerprint_of(other, pool));
  model.params().list().front().value.f32()[5] += 1e-3f;
  EXPECT_NE(own, fingerprint_of(model, pool));
}

}  // namespace
}  // namespace llmtool
