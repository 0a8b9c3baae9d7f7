#pragma once
// A training run: the loop that pretraining and fine-tuning share, and what it leaves in the run's folder.

#include <chrono>
#include <limits>
#include <memory>
#include <optional>

#include "llmtool/model/transformer.h"
#include "llmtool/text/tokenizer.h"
#include "llmtool/train/memory.h"
#include "llmtool/train/optimizer.h"
#include "llmtool/train/report.h"
#include "llmtool/train/run_folder.h"
#include "llmtool/train/trainer.h"
#include "train/signals.h"

namespace llmtool {

/// Schedule, accumulation, evaluation, samples, early stopping, checkpoints, report, memory plan, signals. An
/// heir says what is trained on what.
class TrainingRun {
 public:
  virtual ~TrainingRun() = default;
  TrainingRun(const TrainingRun&) = delete;
  TrainingRun& operator=(const TrainingRun&) = delete;
  RunOutcome run();

 protected:
  TrainingRun(ThreadPool& pool, const RunOptions& options);

  struct MicroBatch {
    Batch batch;
    std::span<const int32_t> targets;
  };
  struct Evaluation {
    LossSums sums;
    nlohmann::ordered_json columns = nlohmann::ordered_json::object();  // of metrics.jsonl, behind val_loss
    std::string text;                                                   // behind "validation loss 1.2"
  };

  // What an heir says.
  virtual const char* command() const = 0;
  virtual const RunConfig& config() const = 0;
  virtual nlohmann::ordered_json config_json() const = 0;
  virtual uint64_t data_hash() const = 0;
  /// Of the weights that checkpoints do without, as they stay those of the base; 0: there are none.
  virtual uint64_t base_hash() const { return 0; }
  /// Opens data and model: afterwards model_, stores_ with their gradients, tokenizer_ (where there is one),
  /// and config()'s max_steps are set.
  virtual void prepare() = 0;
  virtual void say_plan() const = 0;
  /// Draws the weights of step 0, where prepare() has not read them.
  virtual void initialize() {}
  /// The lengths of a batch of that many that takes the most memory.
  virtual std::vector<int64_t> largest_batch(int64_t batch_size) const = 0;
  /// What to do where not even one sequence at a time fits.
  virtual const char* last_advice() const = 0;

  // Of the step to come.
  virtual int64_t micro_batches() const = 0;
  virtual MicroBatch micro_batch(int64_t i) = 0;
  virtual double step_weight() const = 0;  // of the targets that count in its loss
  /// More of what the loss is made of; scale and z_loss are set.
  virtual void set_loss(LossOptions&) const {}
  /// What is added to the mean loss, whose gradient is accumulated.
  virtual double regularize() { return 0; }
  /// After an update, of whose gradients `gradient_scale` was the factor; state_.step counts it.
  virtual void after_update(double /*gradient_scale*/) {}
  virtual int64_t first_sample(int64_t step) const = 0;  // of a step, counted from the start of the run
  virtual double tokens_per_step() const = 0;            // on average
  /// More columns of a step's row of metrics.jsonl; state_.step is that step.
  virtual void describe_step(nlohmann::ordered_json&) const {}

  /// The validation loss; nothing where there is no validation data.
  virtual std::optional<Evaluation> take_evaluation() = 0;
  /// What is continued for a prompt of the config.
  virtual std::vector<TokenId> prompt_ids(const std::string& prompt) const;
  virtual void save_weights(const std::filesystem::path& checkpoint) const = 0;
  virtual void load_weights_of(const std::filesystem::path& checkpoint) = 0;
  /// Writes what the run was for; returns its folder.
  virtual std::filesystem::path save_result() const = 0;
  virtual void describe(RunReport&) const {}

  const TrainingConfig& training() const { return config().training; }
  void save_model(const std::filesystem::path& folder, DType stored) const;  // with the tokenizer

  ThreadPool& pool_;
  RunOptions options_;
  RunFolder folder_;
  std::optional<Transformer> model_;
  ParamStores stores_;  // what is learnt, and what is frozen
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::unique_ptr<Exec> exec_;
  struct State {
    int64_t step = 0;  // updates done
    double best_val_loss = std::numeric_limits<double>::infinity();
    int64_t evaluations_without_gain = 0;
    double seconds = 0;  // of training, before this start
  };
  State state_;
  MemoryPlan plan_;

 private:
  struct StepSums {
    LossSums loss;
    double regularization = 0;
    int64_t tokens = 0;
  };

  // Before step 0 (training_setup.cpp).
  MemoryPlan measure(const TrainingConfig& training, size_t* saved, size_t* scratch);
  std::string what_would_fit(size_t free);
  void plan_memory();
  bool begin();  // with the state of the newest checkpoint, or afresh: whether there was one
  void start_or_resume();
  void check_same_run() const;
  void write_run_json() const;

  // The loop (training_run.cpp).
  StepSums take_gradients();                        // of the step to come
  double update_weights(double rate, double norm);  // returns the factor of the gradients
  void rehearse();  // a few steps that leave nothing but an estimate of the time
  void train_one_step();
  void after_step();
  void evaluate();
  void write_samples();
  bool out_of_patience() const;
  void finish(RunOutcome& outcome);
  double elapsed() const;

  // What it leaves (training_files.cpp).
  void save();
  void load(const RunFolder::Checkpoint& checkpoint);
  void update_report();
  std::string time_estimate(int64_t steps) const;
  void show_state(double loss, double tokens_per_second);

  std::unique_ptr<AdamW> optimizer_;
  std::unique_ptr<Arena> saved_, scratch_;
  SignalWatch signals_;
  uint64_t base_hash_ = 0;
  int64_t first_step_ = 0;   // of this start
  int64_t saved_step_ = -1;  // of the newest checkpoint
  std::filesystem::path saved_path_;
  std::chrono::steady_clock::time_point start_;
  double loss_ = std::numeric_limits<double>::quiet_NaN(), val_loss_ = loss_;
  double speed_ = 0;  // tokens per second, smoothed
  double last_line_ = 0;
  std::vector<RunReport::Sample> samples_;
};

}  // namespace llmtool
