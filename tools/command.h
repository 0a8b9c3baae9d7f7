#pragma once
// What the commands share: their common flags, config reading, exit codes.

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "llmtool/io/config.h"

namespace CLI {
class App;
}

namespace llmtool {

/// Flags that commands share.
struct CommonFlags {
  std::string config;                 // --config F
  std::vector<std::string> settings;  // --set a.b=value
  int threads = 0;                    // --threads N; 0: the cores this process may use
  std::optional<int64_t> seed;        // --seed N
  bool json = false;                  // --json
  bool quiet = false;                 // --quiet
  bool print_config = false;          // --print-config
};

void add_common_flags(CLI::App& app, CommonFlags& flags);
/// Of a command without a config or a random choice: threads, json and quiet alone.
void add_plain_flags(CLI::App& app, CommonFlags& flags);
/// The config file (when given) with --set applied. Throws UsageError.
nlohmann::json read_config_json(const CommonFlags& flags);

/// One command: describes itself on `app` and returns what to run once the flags are parsed (exit code).
using Command = std::function<int()> (*)(CLI::App& app);
std::function<int()> tokenize_command(CLI::App& app);
std::function<int()> pretrain_command(CLI::App& app);
std::function<int()> finetune_command(CLI::App& app);
std::function<int()> generate_command(CLI::App& app);
std::function<int()> embed_command(CLI::App& app);
std::function<int()> classify_command(CLI::App& app);
std::function<int()> fill_mask_command(CLI::App& app);
std::function<int()> info_command(CLI::App& app);
std::function<int()> convert_command(CLI::App& app);
std::function<int()> merge_command(CLI::App& app);
std::function<int()> records_command(CLI::App& app);
std::function<int()> schema_command(CLI::App& app);

/// Visits the keys of a command's config with their defaults: for its schema and its help. Of a model's keys
/// those of one family, or of all ("").
void tokenize_config_keys(ConfigVisitor& v, const std::string& family);
void pretrain_config_keys(ConfigVisitor& v, const std::string& family);
void finetune_config_keys(ConfigVisitor& v, const std::string& family);
void generate_config_keys(ConfigVisitor& v, const std::string& family);
struct NamedConfig {
  const char* name;
  void (*keys)(ConfigVisitor&, const std::string& family);
};
const std::vector<NamedConfig>& named_configs();

/// Prints `value` on stdout, indented.
void print_json(const nlohmann::ordered_json& value);

/// The main of `tokenize` and its sisters: parses, runs, turns exceptions into messages on stderr and exit
/// codes (0 done, 1 failed, 2 wrong usage or config).
int run_command(int argc, char** argv, const char* name, const char* description, Command command);
/// The main of `llmtool`: the commands as subcommands.
int run_llmtool(int argc, char** argv);

}  // namespace llmtool
