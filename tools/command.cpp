#include "command.h"

#include <CLI/CLI.hpp>
#include <csignal>
#include <iostream>

#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/core/version.h"
#include "llmtool/io/json.h"

namespace llmtool {

namespace {
struct CommandRow {
  const char* name;
  const char* description;
  Command command;
};

const CommandRow kCommands[] = {
    {"tokenize", "Train a tokenizer; turn text into ids and back", tokenize_command},
    {"pretrain", "Train a language model on text by next-token prediction", pretrain_command},
    {"finetune", "Adapt a pretrained model to a task", finetune_command},
    {"generate", "Write text with a model", generate_command},
    {"schema", "Print the JSON Schema of a command's config", schema_command},
};

/// Flags that print and leave: --version and --help-config.
void add_printing_flags(CLI::App& app, const std::string& name) {
  app.set_version_flag("--version", std::string("llmtool ") + version());
  for (const NamedConfig& config : named_configs()) {
    if (name != config.name) continue;
    app.add_flag_callback(
        "--help-config",
        [&config] {
          std::cout << config_help(config.keys);
          throw CLI::Success();
        },
        "Print the keys of the config and exit");
  }
}

/// Parses and runs; every exception becomes a message and an exit code.
int run_parsed(CLI::App& app, int argc, char** argv, const std::function<int()>& run) {
  // A reader that goes away is no crash: writing fails with EPIPE instead.
  std::signal(SIGPIPE, SIG_IGN);
  try {
    app.parse(argc, argv);
    const int code = run();
    std::cout.flush();
    return code;
  } catch (const CLI::Success& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    show_progress("");
    std::cerr << "error: " << e.what() << "\nSee --help.\n";
    return 2;
  } catch (const UsageError& e) {
    show_progress("");
    std::cerr << "error: " << e.what() << "\n";
    return 2;
  } catch (const std::bad_alloc&) {
    show_progress("");
    std::cerr << "error: out of memory\n";
  } catch (const std::exception& e) {
    show_progress("");
    std::cerr << "error: " << e.what() << "\n";
  }
  return 1;
}
}  // namespace

void add_common_flags(CLI::App& app, CommonFlags& flags) {
  app.add_option("--config", flags.config, "Config file (JSON)")->type_name("FILE")->group("Common");
  app.add_option("--set", flags.settings, "Set one key of the config: a.b=value (JSON)")->type_name("KEY=VALUE")
      ->allow_extra_args(false)->group("Common");
  app.add_option("--threads", flags.threads, "Threads (default: the cores this process may use)")->check(CLI::Range(1, 4096))
      ->type_name("N")->group("Common");
  app.add_option("--seed", flags.seed, "Seed of every random choice")->check(CLI::NonNegativeNumber)->type_name("N")
      ->group("Common");
  app.add_flag("--json", flags.json, "Print the result as JSON")->group("Common");
  app.add_flag("--quiet", flags.quiet, "Say nothing but warnings and errors")->group("Common");
  app.add_flag("--print-config", flags.print_config, "Print the config that would run, and exit")->group("Common");
}

nlohmann::json read_config_json(const CommonFlags& flags) {
  set_quiet(flags.quiet);
  nlohmann::json json = nlohmann::json::object();
  try {
    if (!flags.config.empty()) json = read_json(flags.config);
  } catch (const Error& e) {
    throw UsageError(e.what());
  }
  if (!json.is_object()) throw UsageError(flags.config + ": expected an object");
  json.erase("$schema");  // an editor's hint
  for (const std::string& setting : flags.settings) apply_setting(json, setting);
  return json;
}

const std::vector<NamedConfig>& named_configs() {
  static const std::vector<NamedConfig> configs = {
      {"tokenize", tokenize_config_keys}, {"pretrain", pretrain_config_keys}, {"generate", generate_config_keys}};
  return configs;
}

void print_json(const nlohmann::ordered_json& value) { std::cout << value.dump(2) << "\n"; }

int run_command(int argc, char** argv, const char* name, const char* description, Command command) {
  CLI::App app(description, name);
  add_printing_flags(app, name);
  const std::function<int()> run = command(app);
  return run_parsed(app, argc, argv, run);
}

int run_llmtool(int argc, char** argv) {
  CLI::App app("Trains, adapts and runs language models", "llmtool");
  app.set_version_flag("--version", std::string("llmtool ") + version());
  app.require_subcommand(1);
  std::vector<std::pair<CLI::App*, std::function<int()>>> commands;
  for (const CommandRow& row : kCommands) {
    CLI::App* const sub = app.add_subcommand(row.name, row.description);
    add_printing_flags(*sub, row.name);
    commands.emplace_back(sub, row.command(*sub));
  }
  return run_parsed(app, argc, argv, [&] {
    for (const auto& [sub, run] : commands) {
      if (sub->parsed()) return run();
    }
    return 2;
  });
}

}  // namespace llmtool
