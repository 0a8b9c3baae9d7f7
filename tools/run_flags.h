#pragma once
// What the commands share that train.

#include <string>

#include "llmtool/train/trainer.h"

namespace CLI {
class App;
}

namespace llmtool {

/// --resume, --allow-config-changes, --dry-run.
void add_run_flags(CLI::App& app, RunOptions& options);
/// What a dry run found, as JSON on stdout.
void print_plan(const RunOutcome& outcome);
/// The result of a run as JSON on stdout.
void print_outcome(const std::string& output, const RunOutcome& outcome);

}  // namespace llmtool
