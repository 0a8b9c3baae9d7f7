#pragma once
// A tiny training run for the tests of the programs.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "support.h"

namespace llmtool::test {

using Arguments = std::vector<std::string>;

#define EXPECT_SAYS(message, part) EXPECT_NE((message).find(part), std::string::npos) << (message)

inline std::vector<nlohmann::json> json_rows(const std::string& text) {
  std::vector<nlohmann::json> rows;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) rows.push_back(nlohmann::json::parse(line));
  return rows;
}

/// Sentences of a small language, which a model of 10,000 parameters learns in a hundred steps.
inline std::string small_language(int sentences, uint32_t seed = 5) {
  const char* const words[][3] = {
      {"the cat ", "a dog ", "my hen "}, {"sees ", "likes ", "eats "}, {"fish.\n", "corn.\n", "grass.\n"}};
  std::string text;
  for (int i = 0; i < sentences; ++i) {
    for (const auto& choice : words) {
      seed = seed * 1664525 + 1013904223;
      text += choice[(seed >> 16) % 3];
    }
  }
  return text;
}

class RunTest : public ::testing::Test {
 protected:
  void SetUp() override {
    write_text(place / "text.txt", small_language(400));
    config = {{"model",
               {{"model_type", "llama"},
                {"hidden_size", 32},
                {"intermediate_size", 64},
                {"num_hidden_layers", 2},
                {"num_attention_heads", 4},
                {"num_key_value_heads", 2},
                {"max_position_embeddings", 64}}},
              {"tokenizer", {{"model_type", "char"}, {"vocab_size", 0}}},
              {"training",
               {{"max_steps", 12},
                {"batch_size", 4},
                {"sequence_length", 24},
                {"learning_rate", 1e-2},
                {"save_steps", 4},
                {"save_total_limit", 5},
                {"seed", 3}}},
              {"evaluation", {{"steps", 4}}},
              {"sample", {{"prompts", nlohmann::json::array()}}}};
  }

  std::string path(const std::string& name) const { return (place / name).string(); }
  Arguments arguments_of(const std::string& output, Arguments more = {}) const {
    write_text(place / "config.json", config.dump());
    Arguments arguments = {"--config",       path("config.json"), "--data",
                           path("text.txt"), "--output",          path(output)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  RunResult pretrain(const std::string& output, const Arguments& more = {}) const {
    return run_program("pretrain", arguments_of(output, more));
  }
  /// A model of the small language, path("run").
  void train(int64_t steps) {
    config["training"]["max_steps"] = steps;
    config["training"]["save_steps"] = 1000;
    config["evaluation"]["steps"] = 0;
    const RunResult r = pretrain("run");
    ASSERT_EQ(r.code, 0) << r.err;
  }
  std::string weights(const std::string& output) const {
    return read_text(place / output / "model" / "model.safetensors");
  }
  /// metrics.jsonl without what the clock says.
  std::vector<nlohmann::json> metrics(const std::string& output) const {
    auto rows = json_rows(read_text(place / output / "metrics.jsonl"));
    for (auto& row : rows) {
      row.erase("seconds");
      row.erase("tokens_per_second");
    }
    return rows;
  }

  TempFolder place;
  nlohmann::json config;
};

}  // namespace llmtool::test
