#include "command.h"

#include <poll.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
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
    {"records", "Keep what was asked and answered, and judge, compare and export it", records_command},
    {"embed", "Turn texts into vectors", embed_command},
    {"classify", "Label texts with a classification model", classify_command},
    {"fill-mask", "Say what a masked-LM model expects at mask tokens", fill_mask_command},
    {"info", "Say what a model is, and what memory it takes", info_command},
    {"merge", "Put adapters into a model's weights", merge_command},
    {"convert", "Turn a model into another format", convert_command},
    {"schema", "Print the JSON Schema of a command's config", schema_command},
};

/// "sampling" of the flags' group "Sampling"; "" of the groups that every command has.
std::string topic_of(const std::string& group) {
  if (group == "Options" || group == "Common" || group == "Positionals") return "";
  std::string topic = group;
  for (char& c : topic) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return topic;
}

/// Help that fits a screen: no empty lines (headings stand out, for they are not indented), few names that
/// wrap; groups of flags that are topics in a line each.
class DenseFormatter : public CLI::Formatter {
 public:
  DenseFormatter() { column_width(42); }
  std::string make_group(std::string group, bool positional,
                         std::vector<const CLI::Option*> options) const override {
    const std::string topic = topic_of(group);
    if (topic.empty()) return CLI::Formatter::make_group(group, positional, options);
    return cat(group, ": ", options.size(), " flags (--help-topic ", topic, ")\n");
  }
  std::string make_topic(const CLI::App& app, const std::string& group) const {
    const auto within = [&](const CLI::Option* option) { return option->get_group() == group; };
    return CLI::Formatter::make_group(group, false, app.get_options(within)).substr(1);
  }
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override {
    const std::string text = CLI::Formatter::make_help(app, name, mode);
    std::string dense;
    for (const char c : text) {
      if (c != '\n' || !dense.ends_with('\n')) dense += c;
    }
    return dense;
  }
};

/// Help on a section; "model" on the default family's keys, "model.FAMILY" on another's.
void print_config_help(const NamedConfig& config, const std::string& topic) {
  constexpr std::string_view kModel = "model.";
  const bool named = topic.starts_with(kModel);
  const std::string family = named ? topic.substr(kModel.size()) : "llama", section = named ? "model" : topic;
  std::cout << config_help([&](ConfigVisitor& v) { config.keys(v, family); }, section);
  if (section == "model") std::cout << "`--help-config model.FAMILY` prints another family's keys.\n";
  if (section.empty())
    std::cout << "`llmtool schema " << config.name << "` prints all of it for a machine.\n";
}

/// The flags of one topic.
void print_topic(const CLI::App& app, const std::string& wanted) {
  std::vector<std::string> topics;
  for (const std::string& group : app.get_groups()) {
    if (topic_of(group).empty()) continue;
    topics.push_back(topic_of(group));
    if (topics.back() == wanted) {
      std::cout << DenseFormatter().make_topic(app, group);
      return;
    }
  }
  std::string all;
  for (const std::string& topic : topics) all += (all.empty() ? "" : ", ") + topic;
  throw UsageError(cat("--help-topic: expected one of ", all, "; found \"", wanted, "\""));
}

/// --help-topic, where flags have topics.
void add_topic_flag(CLI::App& app) {
  const std::vector<std::string> groups = app.get_groups();
  if (std::all_of(groups.begin(), groups.end(), [](const auto& group) { return topic_of(group).empty(); }))
    return;
  app.add_option_function<std::string>(
         "--help-topic",
         [&app](const std::string& topic) {
           print_topic(app, topic);
           throw CLI::Success();
         },
         "Print the flags of a topic, and exit")
      ->type_name("TOPIC");
}

/// Flags that print and leave: --version and --help-config.
void add_printing_flags(CLI::App& app, const std::string& name) {
  app.set_version_flag("--version", std::string("llmtool ") + version());
  for (const NamedConfig& config : named_configs()) {
    if (name != config.name) continue;
    app.add_option_function<std::string>(
           "--help-config",
           [&config, name](const std::string& topic) {
             print_config_help(config, topic);
             throw CLI::Success();
           },
           "Print the keys of the config, of a section, or what begins so, and exit")
        ->expected(0, 1)
        ->default_str("")
        ->type_name("[SECTION]");
  }
}

/// The first argument that nobody knows, with the nearest that is known; "" when all are.
std::string unknown_argument(const CLI::App& app) {
  const CLI::App* at = &app;
  while (!at->get_subcommands().empty()) at = at->get_subcommands().front();
  std::vector<std::string> rest = at->remaining();
  if (rest.empty()) rest = app.remaining();
  if (rest.empty()) return "";
  const std::string word = rest.front().substr(0, rest.front().find('='));
  const bool flag = word.starts_with("-");
  std::vector<std::string> known;
  for (const CLI::Option* option : at->get_options()) {
    if (flag) known.insert(known.end(), option->get_lnames().begin(), option->get_lnames().end());
  }
  for (const CLI::App* sub : at->get_subcommands([](const CLI::App*) { return true; })) {
    if (!flag) known.push_back(sub->get_name());
  }
  const std::string name = word.substr(std::min(word.find_first_not_of('-'), word.size()));
  const std::string near = nearest(name, known.data(), known.size());
  return cat(word,
             flag            ? ": unknown flag"
             : known.empty() ? ": unexpected argument"
                             : ": unknown command",
             near.empty() ? "" : cat(", did you mean ", flag ? "--" : "", near, "?"));
}

int say_error(const std::string& message, int code) {
  show_progress("");
  std::cerr << "error: " << message << "\n";
  return code;
}

/// Parses and runs; every exception becomes a message and an exit code.
int run_guarded(CLI::App& app, int argc, char** argv, const std::function<int()>& run) {
  try {
    app.parse(argc, argv);
    return run();
  } catch (const CLI::Success& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    const std::string unknown = unknown_argument(app);
    return say_error((unknown.empty() ? e.what() : unknown) + "\nSee --help.", 2);
  } catch (const UsageError& e) {
    return say_error(e.what(), 2);
  } catch (const std::bad_alloc&) {
    return say_error("out of memory", 1);
  } catch (const std::exception& e) {
    return say_error(e.what(), 1);
  }
}

bool reader_gone() {
  pollfd out{STDOUT_FILENO, POLLOUT, 0};
  return ::poll(&out, 1, 0) == 1 && (out.revents & POLLERR) != 0;
}

/// A result that could not be written is a failure, except where its reader has seen enough.
int run_parsed(CLI::App& app, int argc, char** argv, const std::function<int()>& run) {
  // A reader that goes away is no crash: writing fails with EPIPE instead.
  std::signal(SIGPIPE, SIG_IGN);
  const int code = run_guarded(app, argc, argv, run);
  std::cout.flush();
  const bool written = std::fflush(stdout) == 0 && !std::ferror(stdout) && std::cout.good();
  if (code != 0 || written || reader_gone()) return code;
  return say_error("standard output: cannot be written; is the disk full?", 1);
}
}  // namespace

void add_plain_flags(CLI::App& app, CommonFlags& flags) {
  app.add_option("--threads", flags.threads, "Threads (default: the cores this process may use)")
      ->check(CLI::Range(1, 4096).description(""))
      ->type_name("N")
      ->group("Common");
  app.add_flag("--json", flags.json, "Print the result as JSON")->group("Common");
  app.add_flag("--quiet", flags.quiet, "Say nothing but warnings and errors")->group("Common");
}

void add_common_flags(CLI::App& app, CommonFlags& flags) {
  app.add_option("--config", flags.config, "Config file (JSON)")->type_name("FILE")->group("Common");
  app.add_option("--set", flags.settings, "Set one key of the config: a.b=value (JSON)")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false)
      ->group("Common");
  // The same range as of a seed in a config, where the run is recorded.
  app.add_option("--seed", flags.seed, "Seed of every random choice")
      ->check(CLI::Range(int64_t{0}, ConfigVisitor::kMaxInteger).description(""))
      ->type_name("N")
      ->group("Common");
  add_plain_flags(app, flags);
  app.add_flag("--print-config", flags.print_config, "Print the config that would run, and exit")
      ->group("Common");
}

nlohmann::json read_config_json(const CommonFlags& flags) {
  set_quiet(flags.quiet);
  nlohmann::json json = nlohmann::json::object();
  try {
    if (!flags.config.empty()) json = read_json(flags.config);
  } catch (const Error& e) {
    throw UsageError(e.what());
  }
  if (!json.is_object()) throw UsageError(cat(flags.config, ": expected an object, found ", shown(json)));
  json.erase("$schema");  // an editor's hint
  for (const std::string& setting : flags.settings) apply_setting(json, setting);
  return json;
}

const std::vector<NamedConfig>& named_configs() {
  static const std::vector<NamedConfig> configs = {{"tokenize", tokenize_config_keys},
                                                   {"pretrain", pretrain_config_keys},
                                                   {"finetune", finetune_config_keys},
                                                   {"generate", generate_config_keys}};
  return configs;
}

void print_json(const nlohmann::ordered_json& value) {
  std::cout << value.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << "\n";
}

int run_command(int argc, char** argv, const char* name, const char* description, Command command) {
  CLI::App app(description, name);
  app.formatter(std::make_shared<DenseFormatter>());
  add_printing_flags(app, name);
  const std::function<int()> run = command(app);
  add_topic_flag(app);
  return run_parsed(app, argc, argv, run);
}

int run_llmtool(int argc, char** argv) {
  CLI::App app("Trains, adapts and runs language models", "llmtool");
  app.formatter(std::make_shared<DenseFormatter>());
  app.set_version_flag("--version", std::string("llmtool ") + version());
  app.require_subcommand(1);
  std::vector<std::pair<CLI::App*, std::function<int()>>> commands;
  for (const CommandRow& row : kCommands) {
    CLI::App* const sub = app.add_subcommand(row.name, row.description);
    add_printing_flags(*sub, row.name);
    commands.emplace_back(sub, row.command(*sub));
    add_topic_flag(*sub);
  }
  return run_parsed(app, argc, argv, [&] {
    for (const auto& [sub, run] : commands) {
      if (sub->parsed()) return run();
    }
    return 2;
  });
}

}  // namespace llmtool
