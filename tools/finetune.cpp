#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cstdlib>
#include <iostream>
#include <memory>

#include "command.h"
#include "llmtool/core/error.h"
#include "llmtool/data/lint.h"
#include "llmtool/train/finetune_data.h"
#include "run_flags.h"

namespace llmtool {

namespace {
/// Ways to train few parameters of their own beside a frozen base.
struct Method {
  const char *flag, *peft_type, *help;
};
constexpr Method kAdapters[] = {
    {"--lora", "LORA", "Train low-rank adapters (LoRA)"},
    {"--adalora", "ADALORA", "Train low-rank adapters whose ranks are dealt out (AdaLoRA)"},
    {"--adaption-prompt", "ADAPTION_PROMPT", "Train gated prefixes of the last blocks"},
    {"--ia3", "IA3", "Train scales of keys, values and feed-forward parts (IA3)"},
    {"--prompt-tuning", "PROMPT_TUNING", "Train vectors in front of the text"},
    {"--prefix-tuning", "PREFIX_TUNING", "Train keys and values in front of every block's"}};

struct FinetuneFlags {
  CommonFlags common;
  FinetuneOptions options;
  std::string model, output, freeze, init_adapter;
  std::vector<std::string> data, validation, add_tokens;
  int64_t train_last = 0, preview = 0;
  bool full = false;
  std::array<bool, std::size(kAdapters)> adapters{};
};

/// Settles what is trained, by flags, by the config or by the adapter to start from. Throws UsageError unless
/// it is one method.
void choose_method(const FinetuneFlags& flags, FinetuneConfig& config) {
  std::vector<std::string> chosen;
  if (flags.full) chosen.emplace_back("--full");
  const bool some = !config.freeze.empty() || config.train_last > 0;
  if (some && !flags.full) chosen.emplace_back("--freeze or --train-last");
  std::string all = "--full (every weight), --freeze REGEX or --train-last N (some of them)", type;
  for (size_t i = 0; i < std::size(kAdapters); ++i) {
    all += cat(", ", kAdapters[i].flag);
    if (!flags.adapters[i]) continue;
    chosen.emplace_back(kAdapters[i].flag);
    type = kAdapters[i].peft_type;
  }
  if (config.adapts() && type.empty()) chosen.push_back("adapter.peft_type " + config.adapter.peft_type);
  if (config.adapts() && !type.empty() && config.adapter.peft_type != type)
    chosen.push_back("adapter.peft_type " + config.adapter.peft_type);
  if (chosen.empty() && !config.init_adapter.empty()) chosen.emplace_back("--init-adapter");
  std::string names;
  for (const std::string& name : chosen) names += (names.empty() ? "" : " and ") + name;
  if (chosen.empty() && (flags.preview > 0 || flags.common.print_config)) return;
  if (chosen.size() != 1)
    throw UsageError(cat("expected one method, found ", chosen.empty() ? "none" : names, ": ", all));
  if (!type.empty()) config.adapter.peft_type = type;
  if (!config.init_adapter.empty() && (flags.full || some))
    throw UsageError(cat("--init-adapter: expected a method with an adapter, found ", names));
}

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
  if (!flags.add_tokens.empty()) config.add_tokens = flags.add_tokens;
  if (!flags.init_adapter.empty()) config.init_adapter = flags.init_adapter;
  choose_method(flags, config);
  return config;
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
    const PreviewStyle style = flags.common.json ? PreviewStyle::json
                               : colour          ? PreviewStyle::colour
                                                 : PreviewStyle::plain;
    std::cout << preview_finetune(pool, config, flags.preview, style);
    return 0;
  }
  FinetuneOptions options = flags.options;
  if (flags.output.empty() && (!options.dry_run || options.resume))
    throw UsageError("--output: expected a folder for the run");
  // A dry run leaves nothing: it has a folder where there is one to go on with.
  if (!options.dry_run || (options.resume && std::filesystem::exists(flags.output)))
    options.output = flags.output;
  const RunOutcome outcome = finetune(pool, config, options);
  if (flags.common.json) flags.options.dry_run ? print_plan(outcome) : print_outcome(flags.output, outcome);
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
                 "Folder of the run: adapter/ or model/, checkpoints/, metrics.jsonl, report.html");
  app.add_option("--init-adapter", flags->init_adapter,
                 "PEFT folder whose weights and settings are the start");
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
  app.add_option("--add-tokens", flags->add_tokens,
                 "Texts that become tokens of their own, behind those of the model")
      ->type_name("TEXT...");
  std::string kinds;
  for (const std::string& kind : lint_kinds()) kinds += (kinds.empty() ? "" : ", ") + kind;
  app.add_option("--allow", flags->options.allow,
                 "Start although the linter finds this kind (ids outside the embedding never): " + kinds)
      ->check(CLI::IsMember(lint_kinds()).description(""))
      ->type_name("KIND");
  add_run_flags(app, flags->options);
  add_common_flags(app, flags->common);
  return [flags] { return run_finetune(*flags); };
}

}  // namespace llmtool
