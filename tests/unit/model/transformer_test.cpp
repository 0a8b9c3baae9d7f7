// What holds for every model, whatever its weights.

#include "llmtool/model/transformer.h"

#include <gtest/gtest.h>

#include <cstring>

#include "llmtool/core/error.h"
#include "reference.h"
#include "support.h"

namespace llmtool {
namespace {

using reference::Machine;

ModelConfig config_of(const std::string& family) {
  ModelConfig c;
  c.model_type = family;
  c.vocab_size = 50;
  c.hidden_size = 24;
  c.num_hidden_layers = 3;
  c.num_attention_heads = 4;
  if (family == "llama") c.num_key_value_heads = 2;
  c.max_position_embeddings = 700;
  c.initializer_range = 0.3;  // far from uniform
  return c;
}

std::vector<int32_t> random_ids(size_t n, uint64_t seed) {
  Rng rng(seed);
  std::vector<int32_t> ids(n);
  for (int32_t& id : ids) id = static_cast<int32_t>(rng.below(50));
  return ids;
}

class Model : public ::testing::TestWithParam<const char*> {
 protected:
  Model() : model(config_of(GetParam())) { model.initialize(1); }

  std::vector<float> logits_of(Exec& exec, std::span<const int32_t> ids, KvCache& cache, int64_t rows) const {
    std::vector<float> logits(static_cast<size_t>(rows * 50));
    model.forward(exec, ids, cache, Tensor(logits.data(), {rows, 50}));
    return logits;
  }

  Transformer model;
  Machine machine;
};

TEST_P(Model, APromptAtOnceInPiecesOrTokenByTokenGivesTheSame) {
  const auto ids = random_ids(600, 1);
  KvCache whole(model.config(), 700), pieces(model.config(), 700), single(model.config(), 700);
  const auto expected = logits_of(machine.exec, ids, whole, 1);
  logits_of(machine.exec, std::span(ids).first(7), pieces, 0);
  logits_of(machine.exec, std::span(ids).subspan(7, 590), pieces, 3);
  const auto in_pieces = logits_of(machine.exec, std::span(ids).subspan(597), pieces, 1);
  KvCache* caches[] = {&single};
  std::vector<float> decoded(50);
  for (const int32_t id : ids) model.decode(machine.exec, {&id, 1}, caches, Tensor(decoded.data(), {1, 50}));
  EXPECT_EQ(single.length, 600);
  // Other summation orders over a few dozen terms, through three layers.
  const reference::Values<double> wide(expected.begin(), expected.end());
  EXPECT_LT(reference::distance(in_pieces, wide), 1e-5);
  EXPECT_LT(reference::distance(decoded, wide), 1e-5);
}

TEST_P(Model, ASequenceHasTheSameBitsInAnyCompany) {
  std::vector<std::vector<float>> alone;
  for (uint64_t b = 0; b < 5; ++b) {
    KvCache cache(model.config(), 40);
    const auto prompt = random_ids(3 + 2 * b, b);
    logits_of(machine.exec, prompt, cache, 0);
    KvCache* caches[] = {&cache};
    std::vector<float> row(50);
    for (const int32_t id : random_ids(4, 100 + b))
      model.decode(machine.exec, {&id, 1}, caches, Tensor(row.data(), {1, 50}));
    alone.push_back(row);
  }
  Machine others(5);
  std::vector<std::unique_ptr<KvCache>> caches;
  std::vector<KvCache*> pointers;
  for (uint64_t b = 0; b < 5; ++b) {
    caches.push_back(std::make_unique<KvCache>(model.config(), 40));
    pointers.push_back(caches.back().get());
    logits_of(others.exec, random_ids(3 + 2 * b, b), *caches.back(), 0);
  }
  std::vector<float> rows(250);
  for (size_t step = 0; step < 4; ++step) {
    std::vector<int32_t> ids;
    for (uint64_t b = 0; b < 5; ++b) ids.push_back(random_ids(4, 100 + b)[step]);
    model.decode(others.exec, ids, pointers, Tensor(rows.data(), {5, 50}));
  }
  for (size_t b = 0; b < 5; ++b) EXPECT_EQ(0, std::memcmp(&rows[b * 50], alone[b].data(), 200)) << b;
}

TEST_P(Model, RecomputingLayersChangesNoBit) {
  ModelConfig c = config_of(GetParam());
  c.attention_dropout = c.residual_dropout = c.embedding_dropout = 0.1;
  if (c.model_type == "llama") c.residual_dropout = c.embedding_dropout = 0;
  Transformer dropping(c);
  dropping.initialize(1);
  const auto inputs = random_ids(60, 1), targets = random_ids(60, 2);
  std::vector<std::vector<float>> results;
  for (const bool recompute : {false, true}) {
    dropping.params().allocate_gradients();
    machine.exec.rng = Rng(9);
    dropping.train_step(machine.exec, Batch::of(inputs, 3), targets, {0.1, 0}, recompute);
    const Tensor g = dropping.params().gradients();
    results.emplace_back(g.f32(), g.f32() + g.size());
  }
  EXPECT_EQ(0, std::memcmp(results[0].data(), results[1].data(), results[0].size() * 4));
}

TEST_P(Model, ADryRunMeasuresWhatAStepTakes) {
  const auto ids = random_ids(60, 1);
  for (const bool recompute : {false, true}) {
    model.params().allocate_gradients();
    Arena saved_size, scratch_size;
    Exec dry{machine.pool, saved_size, scratch_size, Rng()};
    model.train_step(dry, Batch::of(ids, 3), ids, {}, recompute);
    Arena saved(saved_size.peak()), scratch(scratch_size.peak());
    Exec exec{machine.pool, saved, scratch, Rng()};
    EXPECT_NO_THROW(model.train_step(exec, Batch::of(ids, 3), ids, {}, recompute));
    EXPECT_EQ(saved.peak(), saved_size.peak());
    // With experts the dry run reckons with rows that all go to one.
    EXPECT_LE(scratch.peak(), scratch_size.peak());
    if (!model.config().has_experts(0)) {
      EXPECT_EQ(scratch.peak(), scratch_size.peak());
    }
  }
}

TEST_P(Model, TargetsThatDoNotCountHaveNoInfluence) {
  const auto inputs = random_ids(20, 1);
  auto targets = random_ids(20, 2);
  for (size_t i = 10; i < 20; ++i) targets[i] = -1;
  model.params().allocate_gradients();
  const LossSums masked = model.train_step(machine.exec, Batch::of(inputs, 2), targets, {1, 0}, false);
  EXPECT_EQ(masked.count, 10);
  const LossSums alone =
      model.evaluate(machine.exec, Batch::of(std::span(inputs).first(10), 1), std::span(targets).first(10));
  EXPECT_NEAR(masked.loss, alone.loss, 1e-4);
}

TEST_P(Model, WhatCannotBeIsSaid) {
  const auto said = [&](auto act) {
    try {
      act();
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("nothing");
  };
  KvCache cache(model.config(), 10);
  const auto eleven = random_ids(11, 1);
  EXPECT_NE(said([&] { logits_of(machine.exec, eleven, cache, 1); }).find("at most 10 positions"),
            std::string::npos);
  const std::vector<int32_t> beyond = {3, 50}, negative = {3, -1};
  EXPECT_NE(said([&] { logits_of(machine.exec, beyond, cache, 1); }).find("50"), std::string::npos);
  EXPECT_NE(said([&] { logits_of(machine.exec, negative, cache, 1); }).find("-1"), std::string::npos);
  EXPECT_EQ(cache.length, 0);
  const auto long_row = random_ids(701, 1);
  EXPECT_NE(said([&] {
              model.evaluate(machine.exec, Batch::of(long_row, 1), long_row);
            }).find("at most 700 positions"),
            std::string::npos);
  const std::vector<int32_t> outside = {1, 50, 1}, fine = {1, 2, 3};
  const auto of_training =
      said([&] { model.train_step(machine.exec, Batch::of(outside, 1), fine, {}, false); });
  EXPECT_NE(of_training.find("input 1: expected an id below 50, found 50"), std::string::npos) << of_training;
  EXPECT_NE(said([&] { model.evaluate(machine.exec, Batch::of(eleven, 2), eleven); }).find("2 sequences"),
            std::string::npos);
}

TEST_P(Model, ASavedModelComesBackRoundedAsItsFilesSay) {
  test::TempFolder place;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const auto folder = place / dtype_name(dtype);
    save_transformer(model, folder, dtype);
    const Transformer again = load_transformer(folder);
    const Tensor a = model.params().values(), b = again.params().values();
    ASSERT_EQ(a.size(), b.size());
    for (int64_t i = 0; i < a.size(); ++i) {
      // bf16 keeps 8 bits: half a unit of the last is 2^-9 of the value.
      ASSERT_NEAR(b.f32()[i], a.f32()[i], dtype == DType::f32 ? 0 : 0x1p-8 * std::abs(a.f32()[i]));
    }
    EXPECT_EQ(again.config().num_key_value_heads, model.config().num_key_value_heads);
  }
}

TEST_P(Model, FilesThatDoNotFitAreNamed) {
  test::TempFolder place;
  save_transformer(model, place / "m", DType::f32);
  const std::string file = test::read_text(place / "m" / "config.json");
  std::string other = file;
  const std::string key = std::string(GetParam()) == "gpt2" ? "\"n_embd\": 24" : "\"hidden_size\": 24";
  ASSERT_NE(other.find(key), std::string::npos) << file;
  other.replace(other.find(key), key.size(), key.substr(0, key.size() - 2) + "32");
  test::write_text(place / "m" / "config.json", other);
  try {
    load_transformer(place / "m");
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("expected ("), std::string::npos) << e.what();
  }
}

INSTANTIATE_TEST_SUITE_P(Families, Model, ::testing::Values("llama", "gpt2", "mixtral", "qwen2_moe"),
                         [](const auto& info) { return std::string(info.param); });

TEST(ModelConfig, WhatCannotBeNamesItsKey) {
  const auto refusal = [](auto change) {
    ModelConfig c = config_of("llama");
    change(c);
    try {
      c.resolve();
    } catch (const UsageError& e) {
      return std::string(e.what());
    }
    return std::string("nothing");
  };
  EXPECT_NE(refusal([](ModelConfig& c) { c.vocab_size = 0; }).find("model.vocab_size"), std::string::npos);
  EXPECT_NE(refusal([](ModelConfig& c) { c.num_attention_heads = 5; }).find("model.num_attention_heads"),
            std::string::npos);
  EXPECT_NE(refusal([](ModelConfig& c) { c.num_key_value_heads = 3; }).find("model.num_key_value_heads"),
            std::string::npos);
  EXPECT_NE(refusal([](ModelConfig& c) { c.head_dim = 7; }).find("model.head_dim"), std::string::npos);
  EXPECT_EQ(refusal([](ModelConfig& c) { c.head_dim = 10; }), "nothing");
  const auto of_mixtral = [&](auto change) {
    return refusal([&](ModelConfig& c) {
      c.model_type = "mixtral";
      change(c);
    });
  };
  EXPECT_NE(of_mixtral([](ModelConfig& c) { c.num_experts_per_tok = 9; }).find("model.num_experts_per_tok"),
            std::string::npos);
  EXPECT_NE(of_mixtral([](ModelConfig& c) {
              c.num_experts = 4096;
              c.num_hidden_layers = 4096;
            }).find("model.num_local_experts"),
            std::string::npos);
}

}  // namespace
}  // namespace llmtool
