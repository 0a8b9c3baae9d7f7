// Longer contexts: the same as if the config had said so.

#include "llmtool/model/context.h"

#include <gtest/gtest.h>

#include <fstream>

#include "llmtool/core/error.h"
#include "llmtool/model/transformer.h"
#include "reference.h"
#include "support.h"

namespace llmtool {
namespace {

class Context : public ::testing::Test {
 protected:
  static ModelConfig config(const std::string& family = "llama") {
    ModelConfig c;
    c.model_type = family;
    c.vocab_size = 30;
    c.hidden_size = 32;
    c.num_hidden_layers = 2;
    c.num_attention_heads = 2;
    c.max_position_embeddings = 32;
    c.initializer_range = 0.3;
    return c;
  }
  std::shared_ptr<const ModelSource> saved(const ModelConfig& c, const char* name) {
    Transformer model(c);
    model.initialize(1);
    save_transformer(model, place / name, DType::f32);
    return ModelSource::open(place / name);
  }
  /// Changes a saved model's config.json.
  std::shared_ptr<const ModelSource> with(const char* name, int64_t positions,
                                          const nlohmann::json& scaling) {
    nlohmann::json json = nlohmann::json::parse(std::ifstream(place / name / "config.json"));
    json.erase("rope_parameters");
    json["max_position_embeddings"] = positions;
    json["rope_scaling"] = scaling;
    test::write_text(place / name / "config.json", json.dump());
    return ModelSource::open(place / name);
  }
  std::vector<float> logits(std::shared_ptr<const ModelSource> source) {
    const Transformer model(std::move(source));
    std::vector<int32_t> ids;
    for (int32_t i = 0; i < 100; ++i) ids.push_back(i * 7 % 30);
    KvCache cache(model.config(), 100);
    std::vector<float> row(30);
    model.forward(machine.exec, ids, cache, Tensor(row.data(), {1, 30}));
    return row;
  }

  test::TempFolder place;
  reference::Machine machine;
};

TEST_F(Context, AScalingIsThatOfTheConfig) {
  const auto base = saved(config(), "base");
  std::vector<std::vector<float>> all;
  for (const std::string scaling : {"linear", "dynamic", "yarn"}) {
    saved(config(), scaling.c_str());
    nlohmann::json said = {{"rope_type", scaling}, {"factor", 4.0}};
    if (scaling == "yarn") said["original_max_position_embeddings"] = 32;
    const auto expected = logits(with(scaling.c_str(), scaling == "dynamic" ? 32 : 128, said));
    EXPECT_EQ(logits(with_context(base, {128, scaling})), expected) << scaling;
    EXPECT_EQ(logits(with_context(base, {100, scaling, 4})), expected) << scaling;
    all.push_back(expected);
  }
  EXPECT_NE(all[0], all[1]);
  EXPECT_NE(all[1], all[2]);
}

TEST_F(Context, AScalingThatReachesNowhereNamesWhatIsMissing) {
  const auto base = saved(config(), "base");
  const auto complaint = [&](const ContextSettings& settings) -> std::string {
    try {
      with_context(base, settings);
    } catch (const UsageError& e) {
      return e.what();
    }
    return "";
  };
  const std::string expected =
      "rope_scaling: expected --context with at least the trained 32 positions, or a --rope-factor, found ";
  EXPECT_EQ(complaint({0, "linear"}), expected + "neither");
  EXPECT_EQ(complaint({20, "linear"}), expected + "a context of 20");
  EXPECT_EQ(complaint({20, "linear", 0.5}), "rope_factor: expected at least 1, found 0.5");
}

TEST_F(Context, RefusesWhatItsPositionsDoNotReach) {
  const auto base = saved(config(), "base");
  EXPECT_EQ(with_context(base, {}), base);
  EXPECT_EQ(with_context(base, {20}), base);
  EXPECT_THROW(with_context(base, {33}), UsageError);
  EXPECT_THROW(with_context(base, {20, "none", 2}), UsageError);
  EXPECT_THROW(with_context(base, {128, "yarn", 2}), UsageError);
  EXPECT_THROW(with_context(base, {0, "yarn"}), UsageError);
  EXPECT_THROW(with_context(base, {128, "llama3"}), UsageError);
  EXPECT_EQ(with_context(base, {0, "linear", 2})->config().context(), 64);
  EXPECT_THROW(with_context(with_context(base, {0, "linear", 2}), {128, "yarn"}), UsageError);
  EXPECT_THROW(with_context(saved(config("gpt2"), "gpt2"), {64, "yarn"}), UsageError);
}

}  // namespace
}  // namespace llmtool
