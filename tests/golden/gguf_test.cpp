// GGUF files of models with experts and of encoders: what is refused, and what the goldens are too small for.

#include "llmtool/io/gguf.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "golden.h"
#include "llmtool/model/convert.h"

#define EXPECT_SAYS(message, part) EXPECT_NE(std::string(message).find(part), std::string::npos) << message

namespace llmtool {
namespace {

using test::Variant;

void convert(const std::filesystem::path& model, const std::filesystem::path& file,
             DType dtype = DType::f32) {
  convert_to_gguf(*ModelSource::open(model), file, dtype, {}, [](int64_t, int64_t) {});
}

/// A golden as GGUF, with other metadata and tensors of other shapes.
class Altered {
 public:
  explicit Altered(const char* golden) { convert(test::goldens() / golden, place_ / "whole.gguf"); }
  std::filesystem::path with(const std::vector<GgufEntry>& changes, const std::string& without = "",
                             const std::pair<std::string, Shape>& reshaped = {}) const {
    const GgufFile file(place_ / "whole.gguf");
    std::vector<GgufEntry> metadata = changes;
    for (const auto& [key, value] : file.metadata().values()) {
      const bool changed = std::any_of(changes.begin(), changes.end(),
                                       [&, name = key](const GgufEntry& entry) { return entry.key == name; });
      if (!changed && key != without) metadata.push_back({key, value});
    }
    std::vector<GgufTensor> tensors;
    for (const auto& [name, tensor] : file.tensors())
      tensors.push_back({name, name == reshaped.first ? reshaped.second : tensor.shape, tensor.dtype});
    GgufWriter writer(place_ / "altered.gguf", metadata, tensors);
    for (const GgufTensor& t : tensors) {
      const Tensor tensor = file.tensors().at(t.name);
      writer.write(Tensor(tensor.data, tensor.dtype, t.shape));
    }
    writer.commit();
    return place_ / "altered.gguf";
  }
  std::string refusal(const std::vector<GgufEntry>& changes, const std::string& without = "",
                      const std::pair<std::string, Shape>& reshaped = {}) const {
    return test::refusal_of<Error>([&] { load_transformer(with(changes, without, reshaped)); });
  }

 private:
  test::TempFolder place_;
};

TEST(GgufExperts, WhatLlamaCppWouldRunOtherwiseIsNotWritten) {
  test::TempFolder place;
  const auto refusal = [&](const char* model, const nlohmann::json& changes) {
    const Variant variant(model, changes);
    return test::refusal_of<UsageError>([&] { convert(variant.path(), place / "x.gguf"); });
  };
  EXPECT_SAYS(refusal("qwen2_moe_plain", {{"norm_topk_prob", true}}), "norm_topk_prob true");
  EXPECT_SAYS(refusal("qwen3_moe_plain", {{"norm_topk_prob", false}}), "norm_topk_prob false");
  EXPECT_SAYS(refusal("qwen2_moe_plain", {{"decoder_sparse_step", 2}}), "layer without experts (0)");
  EXPECT_SAYS(refusal("qwen3_moe_plain", {{"mlp_only_layers", {1}}}), "layer without experts (1)");
  EXPECT_SAYS(refusal("qwen3_moe_plain", {{"attention_bias", true}}), "attention_bias");
  EXPECT_SAYS(refusal("qwen2_moe_plain", {{"head_dim", 8}}), "qwen2_moe with head_dim 8");
  EXPECT_SAYS(refusal("mixtral", {{"hidden_act", "gelu"}}), "mixtral with gelu");
  EXPECT_FALSE(std::filesystem::exists(place / "x.gguf"));
}

TEST(GgufExperts, WhatDoesNotFitIsNamed) {
  const Altered mixtral("mixtral"), two("qwen2_moe_plain");
  const std::string all = "blk.0.ffn_gate_exps.weight";
  EXPECT_SAYS(mixtral.refusal({{"llama.expert_count", 4u}}), "ffn_gate_inp.weight: expected (4, 24)");
  EXPECT_SAYS(mixtral.refusal({}, "", {all, {6, 6, 24}}),
              all + ": expected the matrices of 3 experts, found (6, 6, 24)");
  EXPECT_SAYS(mixtral.refusal({}, "", {all, {36, 24}}), "experts, found (36, 24)");
  EXPECT_SAYS(mixtral.refusal({}, "", {all, {3, 24, 12}}), all + ": expected (12, 24), found (24, 12)");
  EXPECT_SAYS(mixtral.refusal({{"llama.expert_used_count", 4u}}), "num_experts_per_tok");
  EXPECT_SAYS(mixtral.refusal({{"llama.expert_weights_scale", 2.5f}}), "expert_weights_scale: expected 1");
  EXPECT_SAYS(mixtral.refusal({}, "llama.expert_count"), "blk.0.ffn_gate.weight: not among");
  EXPECT_SAYS(two.refusal({}, "qwen2moe.expert_count"), "expert_count: expected at least 1, found 0");
  EXPECT_SAYS(Altered("gpt2").refusal({{"gpt2.expert_count", 2u}}), "expert_count: expected none, found 2");
}

TEST(GgufExperts, AGateIsReadAsAVectorOrAsAMatrixOfOneRow) {
  const Altered file("qwen2_moe_plain");
  Transformer vector = load_transformer(file.with({}));
  Transformer matrix = load_transformer(file.with({}, "", {"blk.1.ffn_gate_inp_shexp.weight", {1, 24}}));
  test::expect_equal_parameters(vector, matrix);
}

/// The file has the factors of the frequencies alone; config.json wants the settings that made them.
TEST(GgufRope, Llama3GoesThereAndBack) {
  test::TempFolder place;
  const auto config = [&](const std::filesystem::path& folder) {
    return nlohmann::json::parse(test::read_text(folder / "config.json"))["rope_parameters"];
  };
  const Variant usual("llama_llama3", {{"rope_parameters",
                                        {{"rope_type", "llama3"},
                                         {"rope_theta", 500},
                                         {"factor", 4},
                                         {"low_freq_factor", 1},
                                         {"high_freq_factor", 4},
                                         {"original_max_position_embeddings", 24}}}});
  for (const std::filesystem::path& folder : {test::goldens() / "llama_llama3", usual.path()}) {
    const std::string name = folder == usual.path() ? "usual" : "golden";
    convert(folder, place / (name + ".gguf"));
    convert_to_folder(*ModelSource::open(place / (name + ".gguf")), place / name, DType::f32,
                      [](int64_t, int64_t) {});
    std::vector<float> logits[2];
    for (const std::filesystem::path& path : {folder, place / name}) {
      const Transformer model = load_transformer(path);
      test::Machine machine;
      const std::vector<int32_t> ids = {1, 5, 9, 33, 2, 17};
      std::vector<float>& values = logits[path == folder];
      values.resize(6 * 61);
      KvCache cache(model.config(), 6);
      model.forward(machine.exec, ids, cache, {values.data(), {6, 61}});
    }
    EXPECT_LT(test::difference(logits[0].data(), logits[1]), 1e-5) << name;  // the factors are f32
    const nlohmann::json before = config(folder), after = config(place / name);
    EXPECT_EQ(after["rope_type"], "llama3");
    EXPECT_EQ(after["factor"], before["factor"]);
    EXPECT_EQ(after["original_max_position_embeddings"], before["original_max_position_embeddings"]);
    for (const auto& [key, value] : before.items()) EXPECT_TRUE(after.contains(key)) << key;
  }
}

/// Of blocks, each expert's matrix is used where it lies in the tensor of all.
TEST(GgufExperts, OfBlocksStayCloseAndWhereTheyAre) {
  test::TempFolder place;
  ModelConfig c = ModelConfig::of_family("qwen2_moe");
  c.vocab_size = 40;
  c.hidden_size = c.intermediate_size = 64;
  c.moe_intermediate_size = c.shared_expert_intermediate_size = 32;
  c.num_hidden_layers = 2;
  c.num_experts = 5;
  c.initializer_range = 0.1;
  Transformer model(c);
  model.initialize(3);
  save_transformer(model, place / "model", DType::f32);
  convert(place / "model", place / "q8.gguf", DType::q8_0);
  Transformer again(std::shared_ptr<const ModelSource>(ModelSource::open(place / "q8.gguf")));
  for (const Param& p : again.params().list()) {
    if (p.name.find(".experts.") == std::string::npos) continue;
    EXPECT_TRUE(p.mapped) << p.name;
    EXPECT_EQ(p.value.dtype, DType::q8_0) << p.name;
  }
  const std::vector<int32_t> ids = {1, 5, 9, 33, 2, 17};
  const std::vector<int64_t> rows = {0, 1, 2, 3, 4, 5};
  test::Machine machine;
  std::vector<float> expected(6 * 40), found(6 * 40);
  model.token_logits(machine.exec, Batch::of(ids, 1), rows, {expected.data(), {6, 40}});
  again.token_logits(machine.exec, Batch::of(ids, 1), rows, {found.data(), {6, 40}});
  EXPECT_LT(test::difference(found.data(), expected), 0.05);
}

TEST(GgufEncoders, WhatIsNoBertIsNamed) {
  const Altered bert("bert");
  EXPECT_SAYS(bert.refusal({{"bert.attention.causal", true}}), "attention.causal: expected false");
  EXPECT_SAYS(bert.refusal({}, "bert.attention.causal"), "attention.causal: expected false");
  EXPECT_SAYS(Altered("gpt2").refusal({{"gpt2.attention.causal", false}}), "attention.causal: expected true");
  EXPECT_SAYS(bert.refusal({{"bert.context_length", 12u}}), "position_embd.weight: expected (12, 24)");
  test::TempFolder place;
  const Variant tanh("bert", {{"hidden_act", "gelu_new"}});
  EXPECT_SAYS(test::refusal_of<UsageError>([&] { convert(tanh.path(), place / "x.gguf"); }),
              "bert with gelu_new");
  EXPECT_SAYS(
      test::refusal_of<UsageError>([&] { convert(test::goldens() / "bert_masked", place / "x.gguf"); }),
      "expected BertModel, found BertForMaskedLM, for whose head the format has no place");
}

TEST(GgufEncoders, PoolingIsThatOfTheFile) {
  const Altered bert("bert");
  const auto settings = [&](const std::vector<GgufEntry>& changes) {
    return ModelSource::open(bert.with(changes))->embedding();
  };
  EXPECT_FALSE(settings({}).pooling);
  EXPECT_FALSE(settings({{"bert.pooling_type", 0u}}).pooling);
  EXPECT_EQ(settings({{"bert.pooling_type", 1u}}).pooling, Pooling::mean);
  EXPECT_EQ(settings({{"bert.pooling_type", 2u}}).pooling, Pooling::first);
  EXPECT_EQ(settings({{"bert.pooling_type", 3u}}).pooling, Pooling::last);
  EXPECT_TRUE(settings({{"bert.normalize_embeddings", true}}).normalize);
  EXPECT_SAYS(test::refusal_of<Error>([&] {
                settings({{"bert.pooling_type", 4u}});
              }),
              "pooling_type: expected 0 to 3, found 4");
}

}  // namespace
}  // namespace llmtool
