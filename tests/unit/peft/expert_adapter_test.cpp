// Adapters of experts and routers: what is refused, and the folders of transformers 4.

#include <gtest/gtest.h>

#include "golden.h"
#include "llmtool/core/error.h"
#include "llmtool/io/json.h"
#include "llmtool/io/safetensors.h"
#include "llmtool/kernels/convert.h"
#include "llmtool/peft/gguf_adapter.h"
#include "llmtool/peft/merge.h"
#include "support.h"

namespace llmtool {
namespace {

namespace fs = std::filesystem;

fs::path reference(const std::string& name) { return test::source_file("tests/reference") / name; }

/// What is said of such an adapter of Mixtral's experts.
std::string refused(const std::function<void(AdapterConfig&)>& edit) {
  AdapterConfig config;
  config.peft_type = "LORA";
  config.target_parameters = {"experts.gate_up_proj"};
  edit(config);
  Transformer model(read_model_config(reference("goldens/mixtral")));
  return test::refusal_of<UsageError>([&] { Adapter adapter(model, config); });
}

#define EXPECT_HAS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

TEST(ExpertAdapter, WhatPeftRefusesIsRefused) {
  EXPECT_EQ(refused([](AdapterConfig&) {}), "");
  EXPECT_HAS(refused([](AdapterConfig& c) { c.lora_dropout = 0.1; }), "adapter.lora_dropout: expected 0");
  EXPECT_HAS(refused([](AdapterConfig& c) { c.use_dora = true; }), "adapter.use_dora: expected false");
  EXPECT_HAS(refused([](AdapterConfig& c) { c.init_lora_weights = "pissa"; }), "adapter.init_lora_weights");
  EXPECT_HAS(refused([](AdapterConfig& c) { c.peft_type = "ADALORA"; }), "adapter.peft_type: expected LORA");
}

TEST(ExpertAdapter, EachNameMustBeOfExpertsOrRouters) {
  for (const char* name :
       {"experts.up_proj", "q_proj.weight", "norm.weight", "perts.down_proj", "w1.weight"}) {
    const std::string said = refused([&](AdapterConfig& c) { c.target_parameters.emplace_back(name); });
    EXPECT_HAS(said, name);
    EXPECT_HAS(said, "adapter.target_parameters: ");
  }
  EXPECT_EQ(refused([](AdapterConfig& c) { c.target_parameters = {"gate.weight"}; }), "");
  EXPECT_HAS(refused([](AdapterConfig& c) { c.rank_pattern["down_proj"] = 4; }), "adapter.rank_pattern");
  EXPECT_EQ(refused([](AdapterConfig& c) { c.rank_pattern["gate_up_proj"] = 4; }), "");
}

TEST(ExpertAdapter, WhatDoesNothingToParametersIsRefused) {
  EXPECT_HAS(refused([](AdapterConfig& c) { c.layers_to_transform = {1}; }), "adapter.layers_to_transform");
  EXPECT_HAS(refused([](AdapterConfig& c) {
               c.target_parameters = {"gate.weight"};
               c.exclude_modules.names = {"mlp.gate"};
             }),
             "adapter.exclude_modules");
  EXPECT_HAS(refused([](AdapterConfig& c) { c.modules_to_save = {"experts"}; }), "adapter.modules_to_save");
  EXPECT_EQ(refused([](AdapterConfig& c) {
              c.target_modules.names = {"q_proj", "v_proj"};
              c.exclude_modules.names = {"v_proj"};
            }),
            "");
}

TEST(ExpertAdapter, TargetModulesLeaveExpertsAlone) {
  EXPECT_HAS(refused([](AdapterConfig& c) { c.target_modules.names = {"w1"}; }), "for target_parameters");
}

TEST(ExpertAdapter, GgufHasNone) {
  test::TempFolder place;
  EXPECT_HAS(test::refusal_of<UsageError>([&] {
               write_gguf_adapter(ModelSource::open(reference("goldens/mixtral")),
                                  reference("goldens_peft/mixtral_lora_experts/trained"), place / "a.gguf",
                                  DType::f32);
             }),
             "target_parameters");
}

/// The folder of transformers 4, its tensors edited.
class OldExperts : public ::testing::Test {
 protected:
  using Tensors = std::map<std::string, std::pair<Shape, std::vector<float>>>;

  std::string refused(
      const std::function<void(Tensors&)>& edit,
      const std::function<void(nlohmann::json&)>& settings = [](nlohmann::json&) {}) const {
    const fs::path golden = reference("goldens_peft/mixtral_lora_old_experts/initial");
    Tensors all;
    const SafetensorsFile file(golden / "adapter_model.safetensors");
    for (const auto& [name, t] : file.tensors()) {
      all[name] = {t.shape, std::vector<float>(static_cast<size_t>(t.size()))};
      to_f32(t.data, t.dtype, all[name].second.data(), t.size());
    }
    edit(all);
    test::TempFolder place;
    std::vector<NamedTensor> list;
    for (auto& [name, t] : all) list.push_back({name, Tensor(t.second.data(), t.first), DType::f32});
    write_safetensors(place / "adapter_model.safetensors", list, {});
    nlohmann::json config = read_json(golden / "adapter_config.json");
    settings(config);
    test::write_text(place / "adapter_config.json", config.dump());
    return test::refusal_of<Error>([&] {
      AdaptedModel(ModelSource::open(reference("goldens/mixtral")), {{place.path(), 1}});
    });
  }

  static constexpr const char* kPrefix = "base_model.model.model.layers.0.block_sparse_moe.experts.";
};

TEST_F(OldExperts, MustBeWhole) {
  EXPECT_EQ(refused([](Tensors&) {}), "");
  for (const char* name :
       {"1.w3.lora_A.weight", "2.w2.lora_B.weight", "1.w1.lora_A.weight", "0.w2.lora_A.weight"})
    EXPECT_NE(refused([&](Tensors& t) { t.erase(cat(kPrefix, name)); }), "") << name;
  EXPECT_HAS(refused([](Tensors& t) {
               std::erase_if(t, [](const auto& x) { return x.first.find(".w3.") != x.first.npos; });
             }),
             "both gate and up");
}

TEST_F(OldExperts, HaveOneAlphaAndNoDropout) {
  const auto with = [&](const char* key, const nlohmann::json& value) {
    return refused([](Tensors&) {}, [&](nlohmann::json& config) { config[key] = value; });
  };
  EXPECT_HAS(with("alpha_pattern", {{"w2", 4}}), "alpha_pattern: w2: fits ");
  EXPECT_HAS(with("alpha_pattern", {{"model\\.layers\\.1\\..*", 4}}), "alpha_pattern: ");
  EXPECT_EQ(with("lora_dropout", 0.1), "");
}

TEST_F(OldExperts, MayBeOfSomeLayers) {
  EXPECT_EQ(refused(
                [](Tensors& t) {
                  std::erase_if(t, [](const auto& x) { return x.first.find(".layers.0.") != x.first.npos; });
                },
                [](nlohmann::json& config) { config["layers_to_transform"] = {1}; }),
            "");
}

TEST_F(OldExperts, MustNotStandBesideNewOnes) {
  EXPECT_HAS(
      refused([](Tensors& t) {
        t["base_model.model.model.layers.0.mlp.experts.lora_A.weight"] = {{8, 12}, std::vector<float>(96)};
      }),
      "has changes of its own");
}

TEST_F(OldExperts, MustBeOfOneShape) {
  const auto with = [&](const char* name, Shape shape) {
    return refused([&](Tensors& t) {
      t[cat(kPrefix, name)] = {shape, std::vector<float>(static_cast<size_t>(shape.size()))};
    });
  };
  EXPECT_HAS(with("1.w1.lora_A.weight", {3, 24}), "expected (2, 24) as of other experts");
  EXPECT_HAS(with("0.w1.lora_B.weight", {12, 3}), "0.w1.lora_B.weight");
  EXPECT_HAS(with("0.w1.lora_A.weight", {48}), "0.w1.lora_A.weight");
  EXPECT_HAS(with("3.w2.lora_A.weight", {2, 12}), "3.w2.lora_B.weight: not there");
  EXPECT_HAS(with("00.w1.lora_A.weight", {2, 24}), "no such tensor");
}

}  // namespace
}  // namespace llmtool
