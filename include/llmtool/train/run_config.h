#pragma once
// RunConfig: the sections of a config that every training run has.

#include <string>
#include <vector>

#include "llmtool/io/config.h"
#include "llmtool/train/optimizer.h"
#include "llmtool/train/schedule.h"

namespace llmtool {

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

  /// The keys whose meaning no kind of run changes: from min_learning_rate to seed.
  void visit_course(ConfigVisitor& v);
};

struct EvaluationConfig {
  int64_t steps = 250;                  // between evaluations; 0: only at the end
  int64_t max_sequences = 0;            // of the validation split; 0: all
  int64_t early_stopping_patience = 0;  // evaluations without a better loss; 0: never
  double early_stopping_threshold = 0;  // by how much a loss must be better

  /// `limit` is the key of max_sequences.
  void visit(ConfigVisitor& v, const char* limit);
};

struct SampleConfig {
  std::vector<std::string> prompts;  // "": from BOS
  int64_t max_new_tokens = 80;
  double temperature = 0.8, top_p = 1;
  int64_t top_k = 50;

  void visit(ConfigVisitor& v);
};

struct RunConfig {
  TrainingConfig training;
  EvaluationConfig evaluation;
  SampleConfig sample;

  /// Refuses a schedule that cannot be, once its max_steps is known, and sequences beyond the model's
  /// context. Throws UsageError naming the key.
  void check_course(int64_t context) const;
};

}  // namespace llmtool
