#pragma once
// One pretraining run: its state and the parts of its loop.

#include <chrono>
#include <limits>
#include <memory>
#include <optional>

#include "llmtool/model/transformer.h"
#include "llmtool/train/memory.h"
#include "llmtool/train/pretrain_data.h"
#include "llmtool/train/report.h"
#include "llmtool/train/run_folder.h"
#include "llmtool/train/trainer.h"
#include "train/signals.h"

namespace llmtool {

class PretrainRun {
 public:
  PretrainRun(ThreadPool& pool, const PretrainConfig& config, const PretrainOptions& options);
  PretrainOutcome run();

 private:
  struct State {
    int64_t step = 0;  // updates done
    double best_val_loss = std::numeric_limits<double>::infinity();
    int64_t evaluations_without_gain = 0;
    double seconds = 0;  // of training, before this start
  };

  // Before step 0 (pretrain_setup.cpp).
  void check_config() const;
  void open_model();
  void check_data() const;
  MemoryPlan measure(const TrainingConfig& training, size_t* saved, size_t* scratch);
  void plan_memory();
  void say_plan() const;
  void start_or_resume();
  void check_same_run() const;
  void write_run_json() const;

  void prepare_windows();

  // The loop (pretrain_run.cpp).
  uint64_t first_sample() const;  // of the step to come, counted from the start of the run
  LossSums take_gradients();      // of the step to come
  void update_weights(double rate, double norm);
  void rehearse();  // a few steps that leave nothing but an estimate of the time
  void train_one_step();
  void after_step();
  void evaluate();
  void write_samples();
  bool out_of_patience() const;
  void finish(PretrainOutcome& outcome);
  double elapsed() const;
  int64_t step_tokens() const;

  // What it leaves (pretrain_files.cpp).
  void save();
  void load(const RunFolder::Checkpoint& checkpoint);
  void save_model(const std::filesystem::path& folder, DType stored) const;
  void update_report();
  std::string time_estimate(int64_t steps) const;
  void show_state(double loss, double tokens_per_second);

  ThreadPool& pool_;
  PretrainConfig config_;
  PretrainOptions options_;
  RunFolder folder_;
  PretrainData data_;
  std::optional<WindowSampler> windows_;
  std::optional<Transformer> model_;
  std::unique_ptr<AdamW> optimizer_;
  std::unique_ptr<Arena> saved_, scratch_;
  std::unique_ptr<Exec> exec_;
  MemoryPlan plan_;
  SignalWatch signals_;
  State state_;
  int64_t first_step_ = 0;   // of this start
  int64_t saved_step_ = -1;  // of the newest checkpoint
  std::filesystem::path saved_path_;
  std::chrono::steady_clock::time_point start_;
  double loss_ = std::numeric_limits<double>::quiet_NaN(), val_loss_ = loss_;
  double speed_ = 0;  // tokens per second, smoothed
  double last_line_ = 0;
  std::vector<int32_t> inputs_, targets_;
  std::vector<int64_t> bytes_of_;  // per id, for bits per byte
  std::vector<RunReport::Sample> samples_;
};

}  // namespace llmtool
