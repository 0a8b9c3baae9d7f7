#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cstdlib>
#include <iostream>
#include <memory>

#include "command.h"
#include "llmtool/core/error.h"
#include "llmtool/train/finetune_data.h"
#include "run_flags.h"

namespace llmtool {

namespace {
/// Ways to train few parameters of their own beside a frozen base.
struct Method {
  const char *flag, *help;
};
constexpr Method kAdapters[] = {{"--lora", "Train low-rank adapters (LoRA)"},
                                {"--adalora", "Train low-rank adapters whose ranks are dealt out (AdaLoRA)"},
                                {"--adaption-prompt", "Train gated prefixes of the last blocks"},
                                {"--ia3", "Train scales of keys, values and feed-forward parts (IA3)"},
                                {"--prompt-tuning", "Train vectors in front of the text"},
                                {"--prefix-tuning", "Train keys and values in front of every block's"}};

struct FinetuneFlags {
  CommonFlags common;
  FinetuneOptions options;
  std::string model, output, freeze;
  std::vector<std::string> data, validation;
  int64_t train_last = 0, preview = 0;
  bool full = false;
  std::array<bool, std::size(kAdapters)> adapters{};
};

/// The config file with the flags over it.
FinetuneConfig config_of(const FinetuneFlags& flags) {
  FinetuneConfig config = read_finetune_config(read_config_json(flags.common));
  if (flags.common.seed) config.training.seed = *flags.common.seed;
  if (!flags.model.empty()) config.model = flags.model;
  if (!flags.data.empty()) {
    config.data.train.clear();
    for (const std::string& path : flags.data) config.data.train.push_back({path, 0});
  }
  if (!flags.validation.empty()) config.data.validation = flags.validation;
  if (!flags.freeze.empty()) config.freeze = flags.freeze;
  if (flags.train_last > 0) config.train_last = flags.train_last;
  return config;
}

/// Throws UsageError unless exactly one method is chosen.
void check_method(const FinetuneFlags& flags, const FinetuneConfig& config) {
  const bool weights = flags.full || !config.freeze.empty() || config.train_last > 0;
  std::string chosen = flags.full ? "--full" : weights ? "--freeze or --train-last" : "";
  std::string all = "--full (every weight), --freeze REGEX or --train-last N (some of them)";
  int64_t count = weights;
  for (size_t i = 0; i < std::size(kAdapters); ++i) {
    all += cat(", ", kAdapters[i].flag);
    if (!flags.adapters[i]) continue;
    chosen += cat(chosen.empty() ? "" : " and ", kAdapters[i].flag);
    ++count;
  }
  if (count != 1)
    throw UsageError(cat("expected one method, found ", chosen.empty() ? "none" : chosen, ": ", all));
  if (!weights) throw UsageError(cat(chosen, ": adapters are not in this version yet; there is --full"));
}

int run_finetune(const FinetuneFlags& flags) {
  const FinetuneConfig config = config_of(flags);
  if (flags.common.print_config) {
    FinetuneConfig copy = config;
    print_json(write_config([&](ConfigVisitor& v) { copy.visit(v); }));
    return 0;
  }
  if (config.model.empty()) throw UsageError("--model: expected the model to adapt");
  if (config.data.train.empty()) throw UsageError("--data: expected files with examples");
  ThreadPool pool(flags.common.threads);
  if (flags.preview > 0) {
    const bool colour = ::isatty(STDOUT_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr;
    std::cout << preview_finetune(pool, config, flags.preview, colour);
    return 0;
  }
  check_method(flags, config);
  if (flags.output.empty()) throw UsageError("--output: expected a folder for the run");
  FinetuneOptions options = flags.options;
  options.output = flags.output;
  const RunOutcome outcome = finetune(pool, config, options);
  if (flags.common.json) print_outcome(flags.output, outcome);
  return outcome.signal ? 128 + outcome.signal : 0;
}
}  // namespace

void finetune_config_keys(ConfigVisitor& v, const std::string&) {
  FinetuneConfig config;
  config.visit(v);
}

std::function<int()> finetune_command(CLI::App& app) {
  auto flags = std::make_shared<FinetuneFlags>();
  app.add_option("--model", flags->model, "Model to adapt: a folder, a run, a .gguf file");
  app.add_option("--data", flags->data,
                 "Examples: .jsonl, .json, .csv, .tsv (also .gz, .zst), folders, globs");
  app.add_option("--validation", flags->validation, "Examples to measure on");
  app.add_option("--output", flags->output,
                 "Folder of the run: model/, checkpoints/, metrics.jsonl, report.html");
  app.add_flag("--full", flags->full, "Train every weight");
  app.add_option("--freeze", flags->freeze, "Train every weight but those whose names this finds")
      ->type_name("REGEX");
  app.add_option("--train-last", flags->train_last, "Train the last N blocks, the final norm and the head")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20).description(""))
      ->type_name("N");
  for (size_t i = 0; i < std::size(kAdapters); ++i)
    app.add_flag(kAdapters[i].flag, flags->adapters[i], kAdapters[i].help);
  app.add_option("--preview", flags->preview, "Show N examples as they would be trained, and stop")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20).description(""))
      ->type_name("N");
  app.add_option("--allow", flags->options.allow, "Start although the linter finds this kind")
      ->type_name("KIND");
  add_run_flags(app, flags->options);
  add_common_flags(app, flags->common);
  return [flags] { return run_finetune(*flags); };
}

}  // namespace llmtool
