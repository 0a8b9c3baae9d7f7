// Every architecture against the reference library on tiny random models (tests/reference/make_goldens.py).

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>

#include "golden.h"
#include "llmtool/core/error.h"
#include "llmtool/kernels/optimizer.h"
#include "llmtool/model/convert.h"
#include "llmtool/train/optimizer.h"

namespace llmtool {
namespace {

using test::as_in_memory;
using test::difference;
using test::Machine;

class Architecture : public test::Golden {
 protected:
  int64_t rows() const { return golden.tensors().at("input_ids").shape[0]; }
};

/// Inputs and targets of rows of T + 1 ids.
void shift(std::span<const int32_t> rows, int64_t B, std::vector<int32_t>& inputs,
           std::vector<int32_t>& targets) {
  const int64_t n = static_cast<int64_t>(rows.size()) / B;
  inputs.clear();
  targets.clear();
  for (int64_t b = 0; b < B; ++b) {
    const auto row = rows.subspan(static_cast<size_t>(b * n), static_cast<size_t>(n));
    inputs.insert(inputs.end(), row.begin(), row.end() - 1);
    targets.insert(targets.end(), row.begin() + 1, row.end());
  }
}

TEST_P(Architecture, LogitsEqualTheReference) {
  const auto all = ids("input_ids");
  const auto expected = floats("logits");
  const int64_t V = model.config().vocab_size, B = rows(), n = static_cast<int64_t>(all.size()) / B,
                T = n - 1;
  for (int64_t b = 0; b < B; ++b) {
    KvCache cache(model.config(), 48);
    std::vector<float> logits(static_cast<size_t>(T * V));
    const std::span row(all.data() + b * n, static_cast<size_t>(T));
    model.forward(machine.exec, row, cache, Tensor(logits.data(), {T, V}));
    EXPECT_LT(difference(logits.data(), {expected.begin() + b * T * V, expected.begin() + (b + 1) * T * V}),
              1e-4);
  }
}

TEST_P(Architecture, LossAndGradientsEqualTheReference) {
  for (const bool checkpointing : {false, true}) {
    std::vector<int32_t> inputs, targets;
    shift(ids("input_ids"), rows(), inputs, targets);
    model.params().allocate_gradients();
    const LossOptions options{1.0 / static_cast<double>(inputs.size()), 0};
    const LossSums sums =
        model.train_step(machine.exec, Batch::of(inputs, rows()), targets, options, checkpointing);
    EXPECT_NEAR(sums.loss / static_cast<double>(sums.count), floats("loss")[0], 1e-5);
    EXPECT_NEAR(model.evaluate(machine.exec, Batch::of(inputs, rows()), targets).loss, sums.loss, 1e-4);
    for (const Param& p : model.params().list()) {
      const std::vector<float> expected = as_in_memory(p, floats("grad." + p.name));
      EXPECT_LT(difference(p.grad.f32(), expected), 1e-4) << p.name;
    }
  }
}

TEST_P(Architecture, GreedyTokensEqualTheReference) {
  const auto all = ids("input_ids");
  const auto expected = ids("greedy");
  KvCache cache(model.config(), 48);
  std::vector<float> logits(static_cast<size_t>(model.config().vocab_size));
  const Tensor out(logits.data(), {1, model.config().vocab_size});
  model.forward(machine.exec, std::span(all).first(8), cache, out);
  KvCache* const caches[] = {&cache};
  for (const int32_t id : expected) {
    const auto best = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    ASSERT_EQ(best, id);
    model.decode(machine.exec, {&best, 1}, caches, out);
  }
}

TEST_P(Architecture, FiftyStepsOfAdamWEqualTheReference) {
  if (!golden.tensors().contains("train.ids")) GTEST_SKIP() << "not trained by the reference";
  const auto all = ids("train.ids");
  const auto expected = floats("train.losses");
  model.params().allocate_gradients();
  AdamW optimizer({&model.params()}, {0.9, 0.95, 1e-8, 0.1});
  std::vector<int32_t> inputs, targets;
  for (size_t step = 0; step < 50; ++step) {
    shift(std::span(all).subspan(step * 4 * 17, 4 * 17), 4, inputs, targets);
    fill_zero(machine.exec, model.params().gradients());
    const LossSums sums = model.train_step(machine.exec, Batch::of(inputs, 4), targets, {1.0 / 64, 0}, false);
    const double norm = gradient_norm(machine.exec, {&model.params()});
    optimizer.step(machine.exec, 3e-3, std::min(1.0, 1.0 / (norm + 1e-6)));
    ASSERT_NEAR(sums.loss / 64 / expected[step], 1, 1e-4) << "step " << step;
  }
  EXPECT_LT(expected[49], 0.9 * expected[0]) << "the reference did not learn";
}

TEST_P(Architecture, AccumulatedBatchesEqualOneLargeBatch) {
  std::vector<int32_t> inputs, targets;
  shift(ids("input_ids"), rows(), inputs, targets);
  const LossOptions options{1.0 / static_cast<double>(inputs.size()), 1e-3};
  model.params().allocate_gradients();
  model.train_step(machine.exec, Batch::of(inputs, rows()), targets, options, false);
  const Tensor g = model.params().gradients();
  const std::vector<float> whole(g.f32(), g.f32() + g.size());
  fill_zero(machine.exec, g);
  const auto B = static_cast<size_t>(rows()), T = inputs.size() / B;
  for (size_t b = 0; b < B; ++b) {
    model.train_step(machine.exec, Batch::of(std::span(inputs).subspan(b * T, T), 1),
                     std::span(targets).subspan(b * T, T), options, false);
  }
  EXPECT_LT(difference(g.f32(), whole), 1e-5);
}

TEST_P(Architecture, GradientsHaveTheSameBitsForAnyNumberOfThreads) {
  std::vector<int32_t> inputs, targets;
  shift(ids("input_ids"), rows(), inputs, targets);
  std::vector<std::vector<float>> results;
  for (const int threads : {1, 2, 5}) {
    Machine m(threads);
    Transformer fresh = load_transformer(folder);
    fresh.params().allocate_gradients();
    fresh.train_step(m.exec, Batch::of(inputs, rows()), targets, {0.01, 1e-4}, false);
    const Tensor g = fresh.params().gradients();
    results.emplace_back(g.f32(), g.f32() + g.size());
  }
  EXPECT_EQ(0, std::memcmp(results[0].data(), results[1].data(), results[0].size() * sizeof(float)));
  EXPECT_EQ(0, std::memcmp(results[0].data(), results[2].data(), results[0].size() * sizeof(float)));
}

TEST_P(Architecture, SavedModelIsReadBack) {
  test::TempFolder place;
  save_transformer(model, place / "model", DType::f32);
  const Transformer again = load_transformer(place / "model");
  const Tensor a = model.params().values(), b = again.params().values();
  ASSERT_EQ(a.size(), b.size());
  EXPECT_EQ(0, std::memcmp(a.data, b.data, a.bytes()));
}

TEST_P(Architecture, ConvertedFolderIsReadBack) {
  test::TempFolder place;
  const auto source = ModelSource::open(folder);
  convert_to_folder(*source, place / "model", DType::f32, [](int64_t, int64_t) {});
  const Transformer again = load_transformer(place / "model");
  const Tensor a = model.params().values(), b = again.params().values();
  ASSERT_EQ(a.size(), b.size());
  EXPECT_EQ(0, std::memcmp(a.data, b.data, a.bytes()));
}

TEST_P(Architecture, WeightsUsedInPlaceGiveTheSameBits) {
  test::TempFolder place;
  const std::shared_ptr<const ModelSource> given = ModelSource::open(folder);
  convert_to_folder(*given, place / "half", DType::bf16, [](int64_t, int64_t) {});
  for (const std::filesystem::path& path : {folder, place / "half"}) {
    const Transformer copied = load_transformer(path);
    const Transformer in_place{std::shared_ptr<const ModelSource>(ModelSource::open(path))};
    const auto all = ids("input_ids");
    const int64_t V = model.config().vocab_size, T = 10;
    std::vector<float> results[2];
    for (const Transformer* const m : {&copied, &in_place}) {
      KvCache cache(m->config(), 16);
      KvCache* const caches[] = {&cache};
      std::vector<float>& logits = results[m == &in_place];
      logits.resize(static_cast<size_t>((T + 1) * V));
      m->forward(machine.exec, std::span(all).first(T), cache, Tensor(logits.data(), {T, V}));
      m->decode(machine.exec, std::span(all).subspan(T, 1), caches, Tensor(logits.data() + T * V, {1, V}));
    }
    EXPECT_EQ(results[0], results[1]) << path;
  }
}

TEST_P(Architecture, GgufIsReadBackOrRefused) {
  // What llama.cpp would run otherwise: its families know no such windows, scalings or layouts.
  const std::map<std::string, std::string> refused = {{"falcon_rw", "ALiBi"},
                                                      {"gemma2", "query_pre_attn_scalar"},
                                                      {"gemma3", "layer_types"},
                                                      {"llama_dynamic", "dynamic"},
                                                      {"llama_yarn", "yarn"},
                                                      {"qwen2", "sliding window"},
                                                      {"qwen3", "attention_bias"},
                                                      {"phi3_longrope", "longrope"},
                                                      {"phi3_short", "longrope"},
                                                      {"qwen2_moe", "sliding window"},
                                                      {"qwen3_moe", "layer without experts (0)"}};
  test::TempFolder place;
  const auto source = ModelSource::open(folder);
  const auto convert = [&] {
    convert_to_gguf(*source, place / "model.gguf", DType::f32, {}, [](int64_t, int64_t) {});
  };
  if (const auto it = refused.find(GetParam()); it != refused.end()) {
    try {
      convert();
      FAIL() << "expected a refusal";
    } catch (const UsageError& e) {
      EXPECT_NE(std::string(e.what()).find(it->second), std::string::npos) << e.what();
    }
    return;
  }
  convert();
  Transformer again = load_transformer(place / "model.gguf");
  test::expect_equal_parameters(model, again);
  const auto all = ids("input_ids");
  const auto expected = floats("logits");
  const int64_t V = model.config().vocab_size;
  // Mistral's file says the window for the context, within which there is no difference.
  const int64_t T = std::min(static_cast<int64_t>(all.size()) / rows() - 1, again.config().context());
  KvCache cache(again.config(), T);
  std::vector<float> logits(static_cast<size_t>(T * V));
  again.forward(machine.exec, std::span(all).first(static_cast<size_t>(T)), cache,
                Tensor(logits.data(), {T, V}));
  EXPECT_LT(difference(logits.data(), {expected.begin(), expected.begin() + T * V}), 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Golden, Architecture, ::testing::ValuesIn(test::golden_names(true)),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace llmtool
