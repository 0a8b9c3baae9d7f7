// A trained Llama-shaped model against what the reference library computes with it.

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <utility>

#include "llmtool/core/error.h"
#include "llmtool/infer/generator.h"
#include "llmtool/model/transformer.h"
#include "llmtool/text/tokenizer.h"
#include "support.h"

namespace llmtool {
namespace {

struct Machine {
  ThreadPool pool{2};
  Arena saved{size_t{16} << 20}, scratch{size_t{64} << 20};
  Exec exec{pool, saved, scratch, Rng(1)};
};

template <class T>
std::vector<T> numbers(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::vector<T> all;
  for (T x; in >> x;) all.push_back(x);
  return all;
}

std::vector<float> floats(const std::filesystem::path& file) {
  const std::string bytes = test::read_text(file);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

const char* const kTexts[] = {"once", "sample0", "sample1", "sample2", "sample3", "sample4"};

TEST(Stories260K, LogitsEqualTheReference) {
  REQUIRE_REFERENCE(folder, "weights/stories260K");
  const Transformer model = load_transformer(folder / "hf");
  Machine m;
  for (const std::string text : kTexts) {
    const auto ids = numbers<int32_t>(folder / "expected" / (text + ".ids.txt"));
    const auto expected = floats(folder / "expected" / (text + ".logits.f32"));
    const auto n = std::min<int64_t>(static_cast<int64_t>(ids.size()), 32);
    ASSERT_EQ(expected.size(), static_cast<size_t>(n * 512));
    KvCache cache(model.config(), 512);
    std::vector<float> logits(expected.size());
    model.forward(m.exec, std::span(ids).first(static_cast<size_t>(n)), cache,
                  Tensor(logits.data(), {n, 512}));
    for (size_t i = 0; i < logits.size(); ++i) ASSERT_NEAR(logits[i], expected[i], 1e-4) << text << " " << i;
  }
}

TEST(Stories260K, TokenLossesEqualTheReference) {
  REQUIRE_REFERENCE(folder, "weights/stories260K");
  const Transformer model = load_transformer(folder / "hf");
  Machine m;
  for (const std::string text : kTexts) {
    const auto ids = numbers<int32_t>(folder / "expected" / (text + ".ids.txt"));
    const auto expected = numbers<double>(folder / "expected" / (text + ".nll.txt"));
    const auto n = static_cast<int64_t>(ids.size());
    KvCache cache(model.config(), 512);
    std::vector<float> logits(static_cast<size_t>(n) * 512);
    model.forward(m.exec, ids, cache, Tensor(logits.data(), {n, 512}));
    ASSERT_EQ(expected.size(), 3 * (ids.size() - 1));  // position, id, loss
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      double sum = 0;
      for (int j = 0; j < 512; ++j) sum += std::exp(static_cast<double>(logits[i * 512 + j]));
      ASSERT_NEAR(std::log(sum) - logits[i * 512 + ids[i + 1]], expected[3 * i + 2], 1e-4)
          << text << " " << i;
    }
  }
}

TEST(Stories260K, EveryFormatHoldsTheSameModel) {
  REQUIRE_REFERENCE(folder, "weights/stories260K");
  Machine m;
  const auto ids = numbers<int32_t>(folder / "expected/sample0.ids.txt");
  const auto expected = floats(folder / "expected/sample0.logits.f32");
  const auto n = static_cast<int64_t>(expected.size()) / 512;
  for (const char* file : {"hf", "stories260K.gguf", "stories260K.bin"}) {
    const Transformer model = load_transformer(folder / file);
    KvCache cache(model.config(), n);
    std::vector<float> logits(expected.size());
    model.forward(m.exec, std::span(ids).first(static_cast<size_t>(n)), cache,
                  Tensor(logits.data(), {n, 512}));
    for (size_t i = 0; i < logits.size(); ++i) ASSERT_NEAR(logits[i], expected[i], 1e-4) << file << " " << i;
  }
}

TEST(Stories260K, TheGgufFileHoldsTheSameTokenizer) {
  REQUIRE_REFERENCE(folder, "weights/stories260K");
  const auto theirs = load_tokenizer(folder / "hf"), ours = load_tokenizer(folder / "stories260K.gguf");
  ASSERT_EQ(ours->vocab_size(), theirs->vocab_size());
  for (const std::string text :
       {"Once upon a time, there was a girl.", "  two  spaces", "\xC3\xA9t\xC3\xA9 \n\t42", ""}) {
    EXPECT_EQ(ours->encode(text), theirs->encode(text)) << text;
  }
}

TEST(Stories260K, CachedDecodingEqualsPrefill) {
  REQUIRE_REFERENCE(folder, "weights/stories260K");
  const Transformer model = load_transformer(folder / "hf");
  Machine m;
  const auto ids = numbers<int32_t>(folder / "expected/sample0.ids.txt");
  const auto n = std::min<size_t>(ids.size(), 200);
  KvCache whole(model.config(), 512), stepwise(model.config(), 512);
  std::vector<float> expected(n * 512), logits(512);
  model.forward(m.exec, std::span(ids).first(n), whole,
                Tensor(expected.data(), {static_cast<int64_t>(n), 512}));
  KvCache* const caches[] = {&stepwise};
  for (size_t i = 0; i < n; ++i) {
    model.decode(m.exec, std::span(ids).subspan(i, 1), caches, Tensor(logits.data(), {1, 512}));
    for (size_t j = 0; j < 512; ++j) ASSERT_NEAR(logits[j], expected[i * 512 + j], 1e-4) << i << " " << j;
  }
}

TEST(Stories260K, ARowOfABatchHasTheBitsItHasAlone) {
  REQUIRE_REFERENCE(folder, "weights/stories260K");
  const Transformer model = load_transformer(folder / "hf");
  Machine m;
  const int32_t starts[] = {1, 80, 300, 7, 451};
  std::vector<KvCache> together, alone;
  std::vector<KvCache*> all;
  for (int b = 0; b < 5; ++b) {
    together.emplace_back(model.config(), 16);
    alone.emplace_back(model.config(), 16);
  }
  for (KvCache& cache : together) all.push_back(&cache);
  std::vector<float> batch(5 * 512), single(512);
  for (int step = 0; step < 3; ++step) {
    model.decode(m.exec, starts, all, Tensor(batch.data(), {5, 512}));
    for (size_t b = 0; b < 5; ++b) {
      KvCache* const one[] = {&alone[b]};
      model.decode(m.exec, std::span(starts).subspan(b, 1), one, Tensor(single.data(), {1, 512}));
      ASSERT_EQ(0, std::memcmp(single.data(), batch.data() + b * 512, 512 * sizeof(float))) << b;
    }
  }
}

TEST(Stories260K, AnAnswerGoesOnWhereThePromptEnded) {
  REQUIRE_REFERENCE(folder, "weights/stories260K");
  const Transformer model = load_transformer(folder / "hf");
  const auto tokenizer = load_tokenizer(folder / "hf");
  ThreadPool pool(2);
  GenerationOptions options;
  options.sampling.temperature = 0;
  options.max_new_tokens = 8;
  Generator generator(model, tokenizer.get(), pool, options);
  bool given = false;
  generator.run(
      [&](GenerationRequest& request) {
        request.prompt = "Once upon a";
        request.ids = tokenizer->encode(request.prompt);
        request.ids.insert(request.ids.begin(), 1);
        return !std::exchange(given, true);
      },
      [&](const GenerationResult& r) {
        std::vector<TokenId> all = r.prompt_ids;
        all.insert(all.end(), r.ids.begin(), r.ids.end());
        EXPECT_EQ(r.prompt + r.text, tokenizer->decode(all));
        EXPECT_TRUE(r.text.starts_with(" time")) << r.text;
      });
}

/// A hundred tokens each; heads of 8 elements are no blocks of q8_0.
TEST(Stories260K, GreedyTextsSurviveAnF16CacheAndAnySpeculation) {
  REQUIRE_REFERENCE(folder, "weights/stories260K");
  const Transformer model = load_transformer(folder / "hf");
  ThreadPool pool(2);
  const auto answers = [&](const GenerationOptions& options) {
    std::vector<std::vector<TokenId>> found;
    Generator generator(model, nullptr, pool, options);
    size_t next = 0;
    generator.run(
        [&](GenerationRequest& request) {
          if (next == std::size(kTexts)) return false;
          auto ids = numbers<int32_t>(folder / "expected" / (std::string(kTexts[next++]) + ".ids.txt"));
          ids.resize(std::min<size_t>(ids.size(), 20));
          request = {"", ids};
          return true;
        },
        [&](const GenerationResult& r) { found.push_back(r.ids); });
    return found;
  };
  GenerationOptions options;
  options.sampling.temperature = 0;
  options.max_new_tokens = 100;
  const auto expected = answers(options);
  ASSERT_EQ(expected.size(), std::size(kTexts));
  options.look_up = true;
  EXPECT_EQ(answers(options), expected);
  options.look_up = false;
  options.draft_model = &model;
  EXPECT_EQ(answers(options), expected);
  options.draft_model = nullptr;
  options.kv_cache_type = DType::f16;
  EXPECT_EQ(answers(options), expected);
  options.kv_cache_type = DType::q8_0;
  EXPECT_THROW(answers(options), UsageError);
}

}  // namespace
}  // namespace llmtool
