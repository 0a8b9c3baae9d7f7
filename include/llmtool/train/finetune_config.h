#pragma once
// FinetuneConfig: everything that decides a run of fine-tuning.

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "llmtool/data/example_config.h"
#include "llmtool/io/config.h"
#include "llmtool/peft/adapter_config.h"
#include "llmtool/train/run_config.h"

namespace llmtool {

/// Parameters that have a learning rate of their own.
struct RateGroup {
  std::string pattern;  // a regular expression that finds a place in their names
  double learning_rate = 0;
};

struct FinetuneConfig : RunConfig {
  FinetuneConfig();

  std::string model;                    // path of the base: a model folder, a run, a .gguf file
  std::string quantization = "none";    // of frozen matrices: none, q8_0, q4_0, nf4
  bool double_quantization = false;     // of nf4's scales
  std::string init_adapter;             // PEFT folder whose weights, and whose settings, are the start
  std::string tokenizer;                // path; empty: the model's
  std::vector<std::string> add_tokens;  // learnt besides: the embedding grows by a row each
  AdapterConfig adapter;                // without a peft_type weights of the model itself are learnt
  nlohmann::json adapter_given = nlohmann::json::object();  // what was written in the section of `adapter`
  ExampleConfig data;
  // More keys of the section training; those that are null here are filled into RunConfig::training by
  // settle().
  LossOn loss_on = LossOn::completion;
  std::optional<double> learning_rate;     // null: 2e-4 of an adapter, else 2e-5
  std::optional<int64_t> sequence_length;  // ids of an example; null: 1024, or the model's context if less
  double num_train_epochs = 3;
  int64_t max_steps = 0;   // 0: by the epochs
  std::string freeze;      // a regular expression that finds a place in the names of what is frozen
  int64_t train_last = 0;  // blocks that are learnt, with all that stands behind them; 0: all
  std::vector<RateGroup> learning_rates;
  double loraplus_lr_ratio = 1;  // rate of LoRA's B against A's (Hayou et al. 2024)
  double neftune_noise_alpha = 0, label_smoothing_factor = 0;
  nlohmann::json class_weights = nlohmann::json::object();  // label -> factor of its examples' loss

  bool adapts() const { return !adapter.peft_type.empty(); }
  void visit(ConfigVisitor& v);
  /// Refuses what cannot be together. Throws UsageError naming the key.
  void check() const;
  /// Fills in what depends on the model.
  void settle(int64_t context);
  /// Steps of the run, from the steps of an epoch: max_steps, or the epochs rounded up.
  int64_t steps(int64_t per_epoch) const;
};

FinetuneConfig read_finetune_config(const nlohmann::json& json);

}  // namespace llmtool
