// A trained GPT-2-shaped model, every intermediate result of which was written down by its makers.

#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "llmtool/io/json.h"
#include "llmtool/model/transformer.h"
#include "reference.h"
#include "support.h"

namespace llmtool {
namespace {

std::vector<std::byte> from_base64(const std::string& text) {
  const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::vector<std::byte> bytes;
  uint32_t buffer = 0;
  int bits = 0;
  for (const char c : text) {
    const size_t value = digits.find(c);
    if (value == std::string::npos) break;
    buffer = buffer << 6 | static_cast<uint32_t>(value);
    if ((bits += 6) >= 8) bytes.push_back(static_cast<std::byte>(buffer >> (bits -= 8)));
  }
  return bytes;
}

template <class T>
std::vector<T> values_of(const nlohmann::json& entry) {
  const std::vector<std::byte> bytes = from_base64(entry.at("data").get<std::string>());
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

Transformer open_model(const std::filesystem::path& file) {
  ModelConfig c;
  c.model_type = "gpt2";
  c.vocab_size = 3;
  c.hidden_size = 48;
  c.num_hidden_layers = c.num_attention_heads = 3;
  c.max_position_embeddings = 11;
  c.tie_word_embeddings = false;
  Transformer model(c);
  const nlohmann::json weights = read_json(file);
  for (Param& p : model.params().list()) {
    // This file holds every matrix as (out, in), as the parameters are held here.
    const auto values = values_of<float>(weights.at(p.name));
    EXPECT_EQ(values.size(), static_cast<size_t>(p.value.size())) << p.name;
    std::memcpy(p.value.data, values.data(), std::min(p.value.bytes(), 4 * values.size()));
  }
  return model;
}

TEST(GptNanoSort, EveryActivationEqualsTheOnePublished) {
  REQUIRE_REFERENCE(folder, "weights/gpt-nano-sort");
  Transformer model = open_model(folder / "gpt-nano-sort-model.json");
  const nlohmann::json partials = read_json(folder / "gpt-nano-sort-t0-partials.json");
  std::vector<int32_t> ids;
  for (const float id : values_of<float>(partials.at("idx"))) ids.push_back(static_cast<int32_t>(id));
  const std::map<std::string, std::string> published = {
      {"attention_norm", "ln1"}, {"qkv", "qkv"},   {"attention", "y"},         {"attention_out", "yProj"},
      {"mlp_norm", "ln2"},       {"mlp_up", "fc"}, {"mlp_activation", "gelu"}, {"mlp_out", "mlp"}};
  reference::Machine m;
  int compared = 0;
  const auto compare = [&](const float* found, const std::string& name) {
    const auto expected = values_of<float>(partials.at(name));
    ++compared;
    for (size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(found[i], expected[i], 1e-5) << name << " " << i;
  };
  model.observe([&](const char* name, int64_t layer, Tensor value) {
    const std::string what = name;
    if (what == "embedding") compare(value.f32(), "x");
    if (what == "block") compare(value.f32(), "block" + std::to_string(layer));
    if (what == "final_norm") compare(value.f32(), "ln_f");
    if (layer == 0 && published.contains(what)) compare(value.f32(), published.at(what));
  });
  model.evaluate(m.exec, Batch::of(ids, 3), ids);
  EXPECT_EQ(compared, 13);
  model.observe({});
  std::vector<float> logits;
  for (size_t b = 0; b < 3; ++b) {
    KvCache cache(model.config(), 11);
    std::vector<float> rows(33);
    model.forward(m.exec, std::span(ids).subspan(b * 11, 11), cache, Tensor(rows.data(), {11, 3}));
    logits.insert(logits.end(), rows.begin(), rows.end());
  }
  compare(logits.data(), "lm_head");
}

}  // namespace
}  // namespace llmtool
