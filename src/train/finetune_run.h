#pragma once
// One run of fine-tuning: examples, a base model, the parameters that are learnt.

#include <set>

#include "llmtool/peft/merge.h"
#include "llmtool/train/finetune_data.h"
#include "train/confusion.h"
#include "train/example_batches.h"
#include "train/training_run.h"

namespace llmtool {

class FinetuneRun : public TrainingRun {
 public:
  FinetuneRun(ThreadPool& pool, const FinetuneConfig& config, const FinetuneOptions& options)
      : TrainingRun(pool, options), config_(config), allow_(options.allow) {}

 private:
  const char* command() const override { return "finetune"; }
  const RunConfig& config() const override { return config_; }
  nlohmann::ordered_json config_json() const override;
  uint64_t data_hash() const override;
  uint64_t base_hash() const override;
  void prepare() override;
  void say_plan() const override;
  std::vector<int64_t> largest_batch(int64_t batch_size) const override;
  const char* last_advice() const override;
  int64_t micro_batches() const override { return batches_->micro_batches(state_.step); }
  MicroBatch micro_batch(int64_t i) override;
  double step_weight() const override;
  void set_loss(LossOptions& options) const override;
  double regularize() override { return adapter_ ? adapter_->regularize(*exec_, 1) : 0; }
  void after_update(double gradient_scale) override;
  void initialize() override;
  int64_t first_sample(int64_t step) const override { return batches_->first_unit(step); }
  double tokens_per_step() const override;
  void describe_step(nlohmann::ordered_json& row) const override;
  std::optional<Evaluation> take_evaluation() override;
  std::vector<TokenId> prompt_ids(const std::string& prompt) const override;
  void save_weights(const std::filesystem::path& checkpoint) const override;
  void load_weights_of(const std::filesystem::path& checkpoint) override;
  std::filesystem::path save_result() const override;
  void describe(RunReport& report) const override;

  /// A whole Hugging Face folder.
  void write_model(const std::filesystem::path& folder, DType stored) const;

  void take_adapter_settings();  // of the adapter to begin with
  void settle_task();
  void check_learnt(const Transformer& model, const std::set<std::string>& learnt) const;
  ExampleBatches::Options batch_options() const;
  void load_data();
  void open_model();
  void open_adapter();
  void warn_of_experts() const;
  void train_embedding();
  void save_module(const std::string& name);  // in the adapter, whole
  /// The token that ends most answers where the model does not stop at it; -1: there is none.
  TokenId learnt_end() const;
  int64_t vocabulary() const;  // the model's, with room for added tokens
  void set_class_weights();
  std::filesystem::path write_adapter(const std::filesystem::path& folder) const;
  void check_examples() const;
  bool classifies() const { return config_.data.classifies(); }
  /// Sequences of these examples, in inputs_ and targets_.
  MicroBatch gather(const ExampleSet& set, const std::vector<int64_t>& examples);
  Evaluation evaluate_texts(int64_t examples);
  Evaluation evaluate_classes(int64_t examples);

  FinetuneConfig config_;
  std::vector<std::string> allow_;
  std::shared_ptr<const ModelSource> base_, source_;  // source_: with what the run changes of the base
  std::unique_ptr<Adapter> adapter_;
  TokenId end_ = -1;                  // learnt_end()
  std::vector<float> class_weights_;  // by label; empty: all alike
  FinetuneData data_;
  std::optional<ExampleBatches> batches_;
  std::vector<int32_t> inputs_, targets_;
  std::optional<Confusion> confusion_;  // of the last evaluation
};

}  // namespace llmtool
