#include "run_flags.h"

#include <CLI/CLI.hpp>
#include <cmath>

#include "command.h"

namespace llmtool {

void add_run_flags(CLI::App& app, RunOptions& options) {
  app.add_flag("--resume", options.resume, "Continue from the newest whole checkpoint");
  app.add_flag("--allow-config-changes", options.allow_config_changes,
               "Resume although config or data differ");
  app.add_flag("--dry-run", options.dry_run,
               "Say what would be done, and what memory and time it would take, and stop");
}

void print_plan(const RunOutcome& outcome) {
  nlohmann::ordered_json memory;
  for (const auto& [part, bytes] : outcome.memory.parts) memory[part] = bytes;
  memory["total"] = outcome.memory.total();
  print_json(
      {{"steps", outcome.steps}, {"memory_bytes", memory}, {"tokens_per_second", outcome.tokens_per_second}});
}

void print_outcome(const std::string& output, const RunOutcome& outcome) {
  const auto number = [](double x) {
    return std::isfinite(x) ? nlohmann::ordered_json(x) : nlohmann::ordered_json(nullptr);
  };
  print_json({{"output", output},
              {"steps", outcome.steps},
              {"loss", number(outcome.loss)},
              {"val_loss", number(outcome.val_loss)}});
}

}  // namespace llmtool
