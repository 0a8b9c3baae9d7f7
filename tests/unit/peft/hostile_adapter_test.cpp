// Adapter folders that are broken, or of another model.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "llmtool/core/error.h"
#include "llmtool/io/json.h"
#include "llmtool/io/safetensors.h"
#include "llmtool/kernels/convert.h"
#include "llmtool/peft/merge.h"
#include "support.h"

namespace llmtool {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// What is said of a folder, and whether the user is to blame.
struct Complaint {
  std::string text;
  bool usage = false;
};

class HostileAdapter : public ::testing::Test {
 protected:
  HostileAdapter() {
    fs::copy(test::source_file("tests/reference/goldens_peft/llama_gqa_lora/trained"), folder);
    config = read_json(folder / "adapter_config.json");
  }

  void write(const std::string& text) const { test::write_text(folder / "adapter_config.json", text); }
  Complaint complaint() const {
    try {
      AdaptedModel(ModelSource::open(test::source_file("tests/reference/goldens/llama_gqa")), {{folder, 1}});
      return {};
    } catch (const UsageError& e) {
      return {e.what(), true};
    } catch (const Error& e) {
      return {e.what(), false};
    }
  }
  Complaint with(const char* key, const json& value) {
    json changed = config;
    changed[key] = value;
    write(changed.dump());
    return complaint();
  }

  /// The weights, after `edit` has changed names, shapes and values.
  struct Stored {
    Shape shape;
    std::vector<float> values;
  };
  Complaint with_tensors(const std::function<void(std::map<std::string, Stored>&)>& edit) {
    std::map<std::string, Stored> all;
    {
      const SafetensorsFile file(folder / "adapter_model.safetensors");
      for (const auto& [name, t] : file.tensors()) {
        Stored& s = all[name];
        s = {t.shape, std::vector<float>(static_cast<size_t>(t.size()))};
        to_f32(t.data, t.dtype, s.values.data(), t.size());
      }
    }
    edit(all);
    std::vector<NamedTensor> list;
    for (auto& [name, s] : all) list.push_back({name, Tensor(s.values.data(), s.shape), DType::f32});
    write_safetensors(folder / "adapter_model.safetensors", list, {});
    return complaint();
  }

  test::TempFolder place;
  fs::path folder = place / "adapter";
  json config;
  const std::string first = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
};

#define EXPECT_BAD_FILE(found, part)                                                              \
  do {                                                                                            \
    const Complaint c = (found);                                                                  \
    EXPECT_FALSE(c.usage) << c.text;                                                              \
    EXPECT_NE(c.text.find(folder.string()), std::string::npos) << "no file is named: " << c.text; \
    EXPECT_NE(c.text.find(part), std::string::npos) << c.text;                                    \
  } while (false)

TEST_F(HostileAdapter, IsWholeAtFirst) { EXPECT_EQ(complaint().text, ""); }

TEST_F(HostileAdapter, TensorsMustBeThoseOfTheConfig) {
  EXPECT_BAD_FILE(with_tensors([&](auto& all) { all.erase(first); }), first);
  EXPECT_BAD_FILE(with_tensors([&](auto& all) {
                    all[first] = {{4, 24}, std::vector<float>(96)};
                    all["base_model.model.stranger"] = {{1}, {1.0f}};
                  }),
                  "stranger");
}

TEST_F(HostileAdapter, ShapesMustBeTheModels) {
  EXPECT_BAD_FILE(with_tensors([&](auto& all) {
                    all[first].shape = {24, 4};
                  }),
                  "expected (4, 24), found (24, 4)");
}

TEST_F(HostileAdapter, ValuesMustBeNumbers) {
  EXPECT_BAD_FILE(
      with_tensors([&](auto& all) { all[first].values[5] = std::numeric_limits<float>::quiet_NaN(); }),
      "expected numbers, found nan");
  EXPECT_BAD_FILE(
      with_tensors([&](auto& all) { all[first].values[5] = -std::numeric_limits<float>::infinity(); }),
      "expected numbers, found -inf");
}

TEST_F(HostileAdapter, RanksTakeNoMemoryBeforeTheFileHasThem) {
  EXPECT_BAD_FILE(with("r", 65536), "expected (65536, 24), found (4, 24)");
  EXPECT_BAD_FILE(with("r", int64_t{1} << 40), "r: expected");
  EXPECT_BAD_FILE(with("r", -1), "r: expected");
  EXPECT_BAD_FILE(with("r", "many"), "r: expected");
  EXPECT_BAD_FILE(with("rank_pattern", {{"q_proj", 60000}}), "expected (60000, 24)");
  EXPECT_BAD_FILE(with("rank_pattern", {{"q_proj", 1e30}}), "rank_pattern.q_proj: expected a rank");
  EXPECT_BAD_FILE(with("lora_alpha", 1e300), "lora_alpha");
  EXPECT_BAD_FILE(with("alpha_pattern", {{"q_proj", 1e300}}), "alpha_pattern.q_proj: expected a number");
  EXPECT_BAD_FILE(with("alpha_pattern", {{"q_proj", "x"}}), "alpha_pattern.q_proj: expected a number");
}

TEST_F(HostileAdapter, OfTheOtherMethodsLikewise) {
  json ada = {{"peft_type", "ADALORA"},
              {"init_r", 65536},
              {"target_r", 1},
              {"lora_alpha", 1},
              {"target_modules", {"q_proj"}}};
  write(ada.dump());
  EXPECT_BAD_FILE(complaint(), "lora_A");
  ada["rank_pattern"] = {{"model.layers.0.self_attn.q_proj.lora_E", {true, false}}};
  write(ada.dump());
  EXPECT_BAD_FILE(complaint(), "rank_pattern.model.layers.0.self_attn.q_proj.lora_E: expected NAME.lora_E");
  write(R"({"peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": 12})");
  EXPECT_BAD_FILE(complaint(), "prompt_embeddings");
  write(R"({"peft_type": "ADAPTION_PROMPT", "adapter_len": 65536, "adapter_layers": 2})");
  EXPECT_BAD_FILE(complaint(), "adaption_prompt");
}

TEST_F(HostileAdapter, ExpressionsMustBeReadable) {
  EXPECT_BAD_FILE(with("target_modules", "(q_proj"), "target_modules");
  EXPECT_BAD_FILE(with("exclude_modules", "[z-a]"), "exclude_modules");
  EXPECT_BAD_FILE(with("rank_pattern", {{"(q", 4}}), "rank_pattern");
  EXPECT_BAD_FILE(with("target_modules", std::string(5000, 'a')), "at most 4096 bytes");
}

TEST_F(HostileAdapter, AnExpressionThatNeverEndsIsStopped) {
  const Complaint c = with("target_modules", "(.+)+(.+)+(.+)+(.+)+(.+)+(.+)+=");
  EXPECT_NE(c.text, "");
}

TEST_F(HostileAdapter, ConfigsMustBeJsonOfKnownKeys) {
  write("");
  EXPECT_BAD_FILE(complaint(), "adapter_config.json");
  write(std::string(100000, '['));
  EXPECT_BAD_FILE(complaint(), "levels");
  write("[]");
  EXPECT_BAD_FILE(complaint(), "expected an object");
  write("{}");
  EXPECT_BAD_FILE(complaint(), "peft_type: missing");
  EXPECT_BAD_FILE(with("peft_type", "MAGIC"), "peft_type");
  EXPECT_BAD_FILE(with("use_qalora", true), "use_qalora");
  EXPECT_BAD_FILE(with("init_lora_weights", "olora"), "init_lora_weights");
}

TEST_F(HostileAdapter, APoolerThatNobodyHasIsNotDrawnAtRandom) {
  const fs::path goldens = test::source_file("tests/reference");
  try {
    AdaptedModel(ModelSource::open(goldens / "goldens/bert_masked"),
                 {{goldens / "goldens_peft/bert_classifier_lora/trained", 1}});
    FAIL() << "expected a complaint";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("bert.pooler.dense.weight"), std::string::npos) << e.what();
  }
}

TEST_F(HostileAdapter, WhatFitsNoPartOfTheModelIsTheUsersChoice) {
  const Complaint c = with("target_modules", {"c_attn"});
  EXPECT_TRUE(c.usage);
  EXPECT_NE(c.text.find("adapter_config.json: adapter.target_modules"), std::string::npos) << c.text;
}

}  // namespace
}  // namespace llmtool
