#pragma once
// Training, from the config to the model folder.

#include <filesystem>
#include <string>
#include <vector>

#include "llmtool/core/thread_pool.h"
#include "llmtool/train/finetune_config.h"
#include "llmtool/train/memory.h"
#include "llmtool/train/pretrain_config.h"

namespace llmtool {

struct RunOptions {
  std::filesystem::path output;
  bool resume = false;                // continue from the newest whole checkpoint
  bool allow_config_changes = false;  // resume although the config differs
  bool dry_run = false;               // say what would be done, and stop
};

struct RunOutcome {
  int64_t steps = 0;
  double loss = 0, val_loss = 0;  // the last ones; NaN where there is none
  int signal = 0;                 // that ended the run, 0: none
  MemoryPlan memory;              // what was planned
  double tokens_per_second = 0;   // of a dry run's steps
};

/// Runs to the end, to early stopping, or to a signal (the step is finished and saved). Writes what RunFolder
/// says and the model to output/model. Throws UsageError on a config that cannot be, Error on anything else;
/// what was saved stays.
RunOutcome pretrain(ThreadPool& pool, const PretrainConfig& config, const RunOptions& options);

/// A dry run needs no output.
struct FinetuneOptions : RunOptions {
  std::vector<std::string> allow;  // kinds of what the linter finds that do not keep the run from starting
};

/// The same for fine-tuning all of a model, a part of it, or an adapter beside it. Throws Error, too, where
/// the linter finds what is not allowed.
RunOutcome finetune(ThreadPool& pool, const FinetuneConfig& config, const FinetuneOptions& options);

}  // namespace llmtool
