// Models that read whole texts against the reference library (tests/reference/make_goldens.py): BERT's heads,
// and the classification heads of decoders.

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "golden.h"
#include "llmtool/core/error.h"
#include "llmtool/io/files.h"
#include "llmtool/io/safetensors.h"
#include "llmtool/model/convert.h"

namespace llmtool {
namespace {

class Encoder : public test::Golden {
 protected:
  std::vector<int32_t> input = ids("input_ids"), lengths32 = ids("lengths");
  std::vector<int32_t> types =
      golden.tensors().contains("token_types") ? ids("token_types") : std::vector<int32_t>();
  Batch batch{input, {lengths32.begin(), lengths32.end()}, types};
  int64_t N = static_cast<int64_t>(input.size()), B = static_cast<int64_t>(lengths32.size()),
          C = model.config().hidden_size;

  bool has(const char* name) const { return golden.tensors().contains(name); }
  std::vector<float> vectors(Pooling pooling) {
    std::vector<float> values(static_cast<size_t>(B * C));
    model.embed_sequences(machine.exec, batch, pooling, {values.data(), {B, C}});
    return values;
  }
};

TEST_P(Encoder, LastLayerEqualsTheReference) {
  std::vector<float> hidden(static_cast<size_t>(N * C));
  model.encode(machine.exec, batch, {hidden.data(), {N, C}});
  EXPECT_LT(test::difference(hidden.data(), floats("hidden")), 1e-4);
}

TEST_P(Encoder, EmbeddingsEqualTheReference) {
  const auto hidden = floats("hidden");
  std::vector<float> first, last, mean;
  size_t start = 0;
  for (const int64_t n : batch.lengths) {
    for (size_t i = 0; i < static_cast<size_t>(C); ++i) {
      const auto at = [&](int64_t row) {
        return hidden[(start + static_cast<size_t>(row)) * static_cast<size_t>(C) + i];
      };
      first.push_back(at(0));
      last.push_back(at(n - 1));
      double sum = 0;
      for (int64_t row = 0; row < n; ++row) sum += at(row);
      mean.push_back(static_cast<float>(sum / static_cast<double>(n)));
    }
    start += static_cast<size_t>(n);
  }
  EXPECT_LT(test::difference(vectors(Pooling::first).data(), first), 1e-4);
  EXPECT_LT(test::difference(vectors(Pooling::last).data(), last), 1e-4);
  EXPECT_LT(test::difference(vectors(Pooling::mean).data(), mean), 1e-4);
  if (has("pooled")) {
    EXPECT_LT(test::difference(vectors(Pooling::pooler).data(), floats("pooled")), 1e-4);
  } else {
    EXPECT_THROW(vectors(Pooling::pooler), Error);
  }
}

TEST_P(Encoder, LogitsEqualTheReference) {
  std::vector<float> logits(has("logits") ? floats("logits").size() : static_cast<size_t>(N));
  const auto n = static_cast<int64_t>(logits.size());
  std::vector<int64_t> rows;
  for (int64_t row = 0; row < N; ++row) rows.push_back(row);
  switch (model.config().head) {
    case HeadKind::classification:
      EXPECT_EQ(model.config().labels, (std::vector<std::string>{"bad", "fair", "good"}));
      model.classify(machine.exec, batch, {logits.data(), {B, n / B}});
      break;
    case HeadKind::language_model:
      model.token_logits(machine.exec, batch, rows, {logits.data(), {N, n / N}});
      break;
    case HeadKind::none:
      EXPECT_THROW(model.classify(machine.exec, batch, {logits.data(), {B, n / B}}), Error);
      EXPECT_THROW(model.token_logits(machine.exec, batch, rows, {logits.data(), {N, 1}}), Error);
      return;
  }
  EXPECT_LT(test::difference(logits.data(), floats("logits")), 1e-4);
}

TEST_P(Encoder, LossAndGradientsEqualTheReference) {
  if (!has("loss")) {
    EXPECT_THROW(model.train_step(machine.exec, batch, input, {}, false), Error);
    return;
  }
  const std::vector<int32_t> targets = ids("targets");
  const auto counted = std::count_if(targets.begin(), targets.end(), [](int32_t t) { return t >= 0; });
  for (const bool checkpointing : {false, true}) {
    model.params().allocate_gradients();
    const LossSums sums = model.train_step(machine.exec, batch, targets,
                                           {1.0 / static_cast<double>(counted), 0}, checkpointing);
    EXPECT_EQ(sums.count, counted);
    EXPECT_NEAR(sums.loss / static_cast<double>(counted), floats("loss")[0], 1e-5);
    EXPECT_NEAR(model.evaluate(machine.exec, batch, targets).loss, sums.loss, 1e-4);
    for (const Param& p : model.params().list()) {
      const std::string name = "grad." + p.name;
      if (!golden.tensors().contains(name)) continue;  // a pooler that the loss does not reach
      if (p.name.ends_with("key.bias")) {
        // It moves all scores of a query alike, so that nothing but rounding is left of its gradient.
        std::string queries = p.name;
        const Param* const q = model.params().find(queries.replace(queries.rfind("key"), 3, "query"));
        EXPECT_LT(array(p.grad).abs().maxCoeff(), 1e-4 * array(q->grad).abs().maxCoeff()) << p.name;
        continue;
      }
      EXPECT_LT(test::difference(p.grad.f32(), test::as_in_memory(p, floats(name))), 1e-4) << p.name;
    }
  }
}

TEST_P(Encoder, NothingCountedGivesNoLossAndNoGradient) {
  if (!has("loss")) GTEST_SKIP() << "no head";
  model.params().allocate_gradients();
  const std::vector<int32_t> none(ids("targets").size(), -1);
  const LossSums sums = model.train_step(machine.exec, batch, none, {}, false);
  EXPECT_EQ(sums.count, 0);
  EXPECT_EQ(sums.loss, 0);
  EXPECT_EQ(array(model.params().gradients()).abs().maxCoeff(), 0);
}

TEST_P(Encoder, IsWrittenAndReadBack) {
  test::TempFolder place;
  convert_to_folder(*ModelSource::open(folder), place / "model", DType::f32, [](int64_t, int64_t) {});
  const Transformer again = load_transformer(place / "model");
  const Tensor a = model.params().values(), b = again.params().values();
  ASSERT_EQ(a.size(), b.size());
  EXPECT_EQ(0, std::memcmp(a.data, b.data, a.bytes()));
  EXPECT_EQ(again.config().labels, model.config().labels);
  EXPECT_EQ(again.config().head, model.config().head);
}

/// transformers 5 wants both names of an untied head's bias, 4 reads the one that is no parameter here.
TEST(BertFiles, AnUntiedHeadsBiasIsWrittenUnderBothNames) {
  const std::filesystem::path folder = test::goldens() / "bert_masked_untied";
  test::TempFolder place;
  save_transformer(load_transformer(folder), place / "saved", DType::f32);
  convert_to_folder(*ModelSource::open(folder), place / "converted", DType::f32,
                    [](int64_t done, int64_t all) { EXPECT_LE(done, all); });
  for (const char* name : {"saved", "converted"}) {
    const SafetensorsFile file(place / name / "model.safetensors");
    const Tensor bias = file.tensors().at("cls.predictions.decoder.bias");
    ASSERT_TRUE(file.tensors().contains("cls.predictions.bias")) << name;
    EXPECT_EQ(0, std::memcmp(file.tensors().at("cls.predictions.bias").data, bias.data, bias.bytes()));
  }
}

TEST_P(Encoder, GgufIsReadBackOrRefused) {
  test::TempFolder place;
  const auto source = ModelSource::open(folder);
  const auto convert = [&] {
    convert_to_gguf(*source, place / "model.gguf", DType::f32, {}, [](int64_t, int64_t) {});
  };
  if (GetParam() != "bert") {
    EXPECT_EQ(test::refusal_of<UsageError>(convert).find("GGUF: expected "), 0u);
    return;
  }
  convert();
  Transformer again = load_transformer(place / "model.gguf");
  test::expect_equal_parameters(model, again);
  EXPECT_FALSE(again.config().pooler);
  std::vector<float> hidden(static_cast<size_t>(N * C));
  again.encode(machine.exec, batch, {hidden.data(), {N, C}});
  EXPECT_LT(test::difference(hidden.data(), floats("hidden")), 1e-4);
}

TEST_P(Encoder, DoesNotGenerate) {
  KvCache cache(model.config(), 4);
  std::vector<float> logits(static_cast<size_t>(model.config().vocab_size));
  EXPECT_THROW(model.forward(machine.exec, std::span(input).first(2), cache,
                             {logits.data(), {1, model.config().vocab_size}}),
               Error);
}

INSTANTIATE_TEST_SUITE_P(Golden, Encoder, ::testing::ValuesIn(test::golden_names(false)),
                         [](const auto& info) { return info.param; });

using test::Variant;

TEST(Classifiers, ADecoderReadsTheLastPositionThatIsNoPadding) {
  const Variant padded("llama_classifier", {{"pad_token_id", 5}});
  const Transformer model = load_transformer(padded.path());
  test::Machine machine;
  const std::vector<int32_t> ids = {1, 2, 3, 5, 5, 1, 2, 3};
  std::vector<float> logits(6);
  model.classify(machine.exec, {ids, {5, 3}}, {logits.data(), {2, 3}});
  for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(logits[i], logits[3 + i], 1e-6);
}

TEST(Classifiers, NumbersAndSetsAreNotTrained) {
  for (const char* problem : {"regression", "multi_label_classification"}) {
    const Variant other("bert_classifier", {{"problem_type", problem}});
    Transformer model = load_transformer(other.path());
    test::Machine machine;
    const std::vector<int32_t> ids = {1, 2}, targets = {0};
    EXPECT_THROW(model.evaluate(machine.exec, {ids, {2}}, targets), Error);
  }
}

TEST(Windows, OfTheQwenMoesAreThoseOfTheReference) {
  // Qwen2MoeConfig: every other layer before max_window_layers; Qwen3MoeConfig: all layers, or none.
  const Variant two("qwen2_moe", {{"layer_types", "absent"}}),
      three("qwen3_moe", {{"use_sliding_window", false}});
  const ModelConfig c = read_model_config(two.path());
  EXPECT_EQ(c.window_of(0), 8);
  EXPECT_EQ(c.window_of(1), 0);
  EXPECT_EQ(read_model_config(test::goldens() / "qwen3_moe").window_of(1), 8);
  EXPECT_EQ(read_model_config(three.path()).window_of(1), 0);
}

TEST(Longrope, OfPhi3IsReadAsTheReferenceDoes) {
  const auto rope = [](const char* type, double original) {
    return nlohmann::json{{"type", type},
                          {"original_max_position_embeddings", original},
                          {"short_factor", {1, 1, 1}},
                          {"long_factor", {2, 2, 2}}};
  };
  const auto settings = [&](nlohmann::json changes) {
    changes["rope_parameters"] = "absent";
    return read_model_config(Variant("phi3_longrope", changes).path()).rope_scaling;
  };
  for (const char* type : {"longrope", "su", "yarn"}) {
    const RopeSettings s =
        settings({{"rope_scaling", rope(type, 9)}, {"original_max_position_embeddings", 20}});
    EXPECT_EQ(s.scaling, RopeScaling::longrope);
    EXPECT_EQ(s.original_positions, 20);  // what stands outside comes first
  }
  const RopeSettings usual =
      settings({{"rope_scaling", rope("longrope", 9)}, {"original_max_position_embeddings", "absent"}});
  EXPECT_EQ(usual.original_positions, 4096);
}

TEST(Config, WhatCannotBeRunRightIsRefused) {
  using nlohmann::json;
  const auto refusal = [](const char* model, const json& changes) {
    return Variant(model, changes).refusal();
  };
  const auto scaling = [](json factors) {
    return json{{"rope_type", "longrope"}, {"short_factor", factors}, {"long_factor", {1, 1, 1}}};
  };
  EXPECT_NE(refusal("bert", {{"architectures", {"BertForTokenClassification"}}}).find("not supported"),
            std::string::npos);
  EXPECT_NE(refusal("bert", {{"architectures", {"RobertaModel"}}}).find("not supported"), std::string::npos);
  EXPECT_NE(refusal("llama_gqa", {{"architectures", {"LlamaForTokenClassification"}}}).find("not supported"),
            std::string::npos);
  EXPECT_EQ(refusal("llama_gqa", {{"architectures", json::array()}}), "");
  EXPECT_NE(refusal("bert_classifier", {{"id2label", {{"0", "a"}, {"1", "a"}}}}).find("another label"),
            std::string::npos);
  EXPECT_EQ(refusal("bert_classifier", {{"id2label", {{"0", 0}, {"1", 1}, {"2", 2}}}}), "");
  EXPECT_NE(refusal("bert_classifier", {{"classifier_dropout", 7}}).find("classifier_dropout"),
            std::string::npos);
  EXPECT_NE(refusal("bert_classifier", {{"problem_type", "ranking"}}).find("ranking"), std::string::npos);
  EXPECT_NE(refusal("bert", {{"is_decoder", true}}).find("is_decoder"), std::string::npos);
  for (const json& factors :
       {json{1, 1}, json{1, 1, 1e-44}, json{1, 1, "x"}, json{1, 1, -1}, json(1), json()}) {
    const std::string message = refusal("phi3_longrope", {{"rope_parameters", scaling(factors)}});
    EXPECT_NE(message.find("config.json"), std::string::npos) << factors;
  }
  EXPECT_NE(refusal("phi3_longrope", {{"original_max_position_embeddings", 1}}).find("2 to 2^24"),
            std::string::npos);
  EXPECT_NE(refusal("phi3", {{"rope_parameters", {{"rope_type", "linear"}, {"factor", 2}}}}).find("linear"),
            std::string::npos);
  EXPECT_NE(
      refusal("mixtral", {{"num_local_experts", 4096}, {"num_hidden_layers", 4096}}).find("in all layers"),
      std::string::npos);
  EXPECT_NE(refusal("mixtral", {{"num_experts_per_tok", 4}}).find("num_experts_per_tok"), std::string::npos);
}

/// The first BERT's files: norms spelt gamma and beta, the next-sentence head and the pooler beside the
/// masked-LM head, position ids.
TEST(BertFiles, OldSpellingsAndSpareTensorsAreRead) {
  const std::filesystem::path folder = test::goldens() / "bert_masked";
  const SafetensorsFile file(folder / "model.safetensors");
  std::vector<NamedTensor> tensors;
  for (const auto& [name, tensor] : file.tensors()) {
    std::string old = name;
    for (const auto& [now, then] : {std::pair{"LayerNorm.weight", "gamma"}, {"LayerNorm.bias", "beta"}}) {
      if (name.ends_with(now)) old = name.substr(0, name.rfind('.') + 1) + then;
    }
    tensors.push_back({old, tensor, DType::f32});
  }
  std::vector<float> zeros(24 * 24);
  tensors.push_back({"bert.pooler.dense.weight", {zeros.data(), {24, 24}}, DType::f32});
  tensors.push_back({"bert.pooler.dense.bias", {zeros.data(), {24}}, DType::f32});
  tensors.push_back({"cls.seq_relationship.weight", {zeros.data(), {2, 24}}, DType::f32});
  tensors.push_back({"bert.embeddings.position_ids", {zeros.data(), {1, 48}}, DType::f32});
  test::TempFolder place;
  write_file(place / "config.json", read_file(folder / "config.json"));
  write_safetensors(place / "model.safetensors", tensors, {});
  const Transformer now = load_transformer(folder), then = load_transformer(place.path());
  EXPECT_FALSE(now.config().pooler);
  EXPECT_TRUE(then.config().pooler);
  for (const Param& p : now.params().list()) {
    const Param* const old = const_cast<Transformer&>(then).params().find(p.name);
    ASSERT_NE(old, nullptr) << p.name;
    EXPECT_EQ(0, std::memcmp(old->value.data, p.value.data, p.value.bytes())) << p.name;
  }
}

/// transformers 4 writes one of an untied head's two names for its bias.
TEST(BertFiles, AnUntiedHeadsBiasStandsUnderEitherName) {
  const std::filesystem::path folder = test::goldens() / "bert_masked_untied";
  const SafetensorsFile file(folder / "model.safetensors");
  std::vector<NamedTensor> tensors;
  for (const auto& [name, tensor] : file.tensors()) {
    if (name == "cls.predictions.bias") continue;
    const bool bias = name == "cls.predictions.decoder.bias";
    tensors.push_back({bias ? "cls.predictions.bias" : name, tensor, DType::f32});
  }
  test::TempFolder place;
  write_file(place / "config.json", read_file(folder / "config.json"));
  write_safetensors(place / "model.safetensors", tensors, {});
  const Transformer now = load_transformer(folder), then = load_transformer(place.path());
  const Tensor a = now.params().values(), b = then.params().values();
  ASSERT_EQ(a.size(), b.size());
  EXPECT_EQ(0, std::memcmp(a.data, b.data, a.bytes()));
}

}  // namespace
}  // namespace llmtool
