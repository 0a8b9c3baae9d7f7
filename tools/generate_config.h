#pragma once
// The settings of `generate`: its config, and the flags that lie over it.

#include <memory>

#include "command.h"
#include "generate_io.h"
#include "generate_sampling.h"
#include "generate_table.h"

namespace llmtool {

struct GenerateConfig {
  GenerationOptions options;
  SamplingTexts sampling_texts;
  PromptSettings prompt;
  TableSettings table;
  std::string record;
  std::vector<int64_t> stop_ids;
  std::string truncate = "none";
  bool ignore_eos = false;

  void visit(ConfigVisitor& v);
};

/// The flags: those that set a key of the config as the key and its JSON value, as given.
struct GenerateFlags {
  CommonFlags common;
  std::string model, tokenizer;
  std::vector<std::string> adapters;
  PromptOptions prompts;
  bool verbose = false, show_prompt = false, dry_run = false, overwrite = false;
  std::vector<std::pair<std::string, nlohmann::json>> given;
};

void add_sampling_flags(CLI::App& app, const std::shared_ptr<GenerateFlags>& flags);
/// The config file with the flags over it. Throws UsageError.
GenerateConfig read_generate_config(const GenerateFlags& flags);

}  // namespace llmtool
