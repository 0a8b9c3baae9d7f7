#pragma once
// PretrainConfig: everything that decides a pretraining run.

#include <string>
#include <vector>

#include "llmtool/data/data_source.h"
#include "llmtool/io/config.h"
#include "llmtool/model/model_config.h"
#include "llmtool/text/train_tokenizer.h"
#include "llmtool/train/optimizer.h"
#include "llmtool/train/schedule.h"

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

struct TrainingConfig {
  Schedule schedule;
  AdamWConfig adam;
  int64_t batch_size = 16, sequence_length = 256, gradient_accumulation_steps = 1;
  double max_grad_norm = 1;
  double z_loss = 0;
  bool gradient_checkpointing = false;
  int64_t save_steps = 500, save_total_limit = 2;
  int64_t seed = 1;
  std::string save_dtype = "float32";
  std::string init_from;  // model folder whose weights are the start
};

struct EvaluationConfig {
  int64_t steps = 250;                  // between evaluations; 0: only at the end
  int64_t max_windows = 0;              // of the validation split; 0: all
  int64_t early_stopping_patience = 0;  // evaluations without a better loss; 0: never
  double early_stopping_threshold = 0;  // by how much a loss must be better
};

struct SampleConfig {
  std::vector<std::string> prompts;  // "": from BOS
  int64_t max_new_tokens = 80;
  double temperature = 0.8, top_p = 1;
  int64_t top_k = 50;
};

struct PretrainConfig {
  ModelConfig model;
  TokenizerConfig tokenizer;
  DataConfig data;
  TrainingConfig training;
  EvaluationConfig evaluation;
  SampleConfig sample;

  void visit(ConfigVisitor& v);
  /// Refuses what cannot be together. Throws UsageError naming the key.
  void check() const;
};

/// Reads `json`; the model's keys are those of its family.
PretrainConfig read_pretrain_config(const nlohmann::json& json);

}  // namespace llmtool
