#include <CLI/CLI.hpp>
#include <memory>

#include "command.h"
#include "llmtool/core/error.h"
#include "run_flags.h"

namespace llmtool {

namespace {
struct PretrainFlags {
  CommonFlags common;
  RunOptions options;
  std::string output;
  std::vector<std::string> data;
};

int run_pretrain(PretrainFlags& flags) {
  nlohmann::json json = read_config_json(flags.common);
  PretrainConfig config = read_pretrain_config(json);
  if (flags.common.seed) config.training.seed = *flags.common.seed;
  if (!flags.data.empty()) {
    config.data.train.clear();
    for (const std::string& path : flags.data) config.data.train.push_back({path, 0});
  }
  if (flags.common.print_config) {
    print_json(write_config([&](ConfigVisitor& v) { config.visit(v); }));
    return 0;
  }
  if (flags.output.empty()) throw UsageError("--output: expected a folder for the run");
  if (config.data.train.empty()) throw UsageError("--data: expected text files or token shards");
  flags.options.output = flags.output;
  ThreadPool pool(flags.common.threads);
  const RunOutcome outcome = pretrain(pool, config, flags.options);
  if (flags.common.json) flags.options.dry_run ? print_plan(outcome) : print_outcome(flags.output, outcome);
  return outcome.signal ? 128 + outcome.signal : 0;
}
}  // namespace

void pretrain_config_keys(ConfigVisitor& v, const std::string& family) {
  PretrainConfig config;
  if (family.empty()) {
    config.model.model_type.clear();  // the keys of every family
  } else {
    config.model = ModelConfig::of_family(family);
  }
  config.visit(v);
}

std::function<int()> pretrain_command(CLI::App& app) {
  auto flags = std::make_shared<PretrainFlags>();
  app.add_option(
      "--data", flags->data,
      "Training data: text (.txt, .jsonl, also .gz, .zst), folders, globs, or token shards (.bin)");
  app.add_option("--output", flags->output,
                 "Folder of the run: model/, checkpoints/, metrics.jsonl, report.html");
  add_run_flags(app, flags->options);
  add_common_flags(app, flags->common);
  return [flags] { return run_pretrain(*flags); };
}

}  // namespace llmtool
