#pragma once
// One pretraining run: windows of text, every weight.

#include "llmtool/train/pretrain_data.h"
#include "train/training_run.h"

namespace llmtool {

class PretrainRun : public TrainingRun {
 public:
  PretrainRun(ThreadPool& pool, const PretrainConfig& config, const RunOptions& options)
      : TrainingRun(pool, options), config_(config) {}

 private:
  const char* command() const override { return "pretrain"; }
  const RunConfig& config() const override { return config_; }
  nlohmann::ordered_json config_json() const override;
  uint64_t data_hash() const override { return data_.hash; }
  void prepare() override;
  void say_plan() const override;
  void initialize() override;
  std::vector<int64_t> largest_batch(int64_t batch_size) const override;
  const char* last_advice() const override { return "take a smaller model"; }
  int64_t micro_batches() const override { return training().gradient_accumulation_steps; }
  MicroBatch micro_batch(int64_t i) override;
  double step_weight() const override { return static_cast<double>(step_tokens()); }
  int64_t first_sample(int64_t step) const override;
  double tokens_per_step() const override { return static_cast<double>(step_tokens()); }
  std::optional<Evaluation> take_evaluation() override;
  void save_weights(const std::filesystem::path& checkpoint) const override;
  void load_weights_of(const std::filesystem::path& checkpoint) override;
  std::filesystem::path save_result() const override;

  void check_config() const;
  void open_model();
  void open_windows();
  int64_t step_tokens() const;

  PretrainConfig config_;
  PretrainData data_;
  std::optional<WindowSampler> windows_;
  std::vector<int32_t> inputs_, targets_;
  std::vector<int64_t> bytes_of_;  // per id, for bits per byte
};

}  // namespace llmtool
