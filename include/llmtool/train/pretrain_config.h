#pragma once
// PretrainConfig: everything that decides a pretraining run.

#include <string>
#include <vector>

#include "llmtool/data/data_source.h"
#include "llmtool/io/config.h"
#include "llmtool/model/model_config.h"
#include "llmtool/text/train_tokenizer.h"
#include "llmtool/train/run_config.h"

namespace llmtool {

struct TokenizerConfig {
  std::string path;            // a tokenizer that exists; "": one is trained on the training text
  TokenizerTraining training;  // of that one
};

struct DataConfig {
  std::vector<DataSource> train;
  std::vector<std::string> validation;  // of its own; empty: held out from the training data
  double validation_fraction = 0.05;
  std::string field = "text";
  std::string input_format = "auto";
  bool strict = false;
};

struct PretrainConfig : RunConfig {
  ModelConfig model;
  TokenizerConfig tokenizer;
  DataConfig data;
  std::string init_from;  // model folder whose weights are the start; a key of the section training

  void visit(ConfigVisitor& v);
  /// Refuses what cannot be together. Throws UsageError naming the key.
  void check() const;
};

/// Reads `json`; the model's keys are those of its family.
PretrainConfig read_pretrain_config(const nlohmann::json& json);

}  // namespace llmtool
