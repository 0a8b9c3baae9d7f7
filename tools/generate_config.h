#pragma once
// The settings of `generate`: its config, and the flags that lie over it.

#include <memory>

#include "command.h"
#include "generate_io.h"
#include "generate_sampling.h"
#include "generate_table.h"
#include "llmtool/infer/choices.h"
#include "llmtool/model/context.h"

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
  std::string regex, grammar, json_schema;  // the form of the answers; at most one
  std::string kv_cache_type = "f32";
  std::string speculative = "none";  // or lookup, or a draft model's path
  ChoiceOptions choices;
  std::string choices_normalize = "none";
  std::string early_stopping = "no";
  ContextSettings context;

  bool chooses() const { return !choices.choices.empty(); }
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
/// The texts of a list with commas between them; "\\," is a comma in a text.
std::vector<std::string> split_choices(const std::string& list);
/// What was chosen, as if it had been written.
GenerationResult as_answer(const ChoiceResult& choice, const ChoiceOptions& options);
/// Into `row`: the likeliest choice and what each of them has; null and nothing where `result` is null.
void add_choice(nlohmann::ordered_json& row, const ChoiceResult* result, const ChoiceOptions& options,
                bool logprobs);
/// Scores the choices for every prompt and prints the likeliest, and writes them to `recorder` where there is
/// one; the exit code.
int run_choices(ChoiceScorer& scorer, const Prompts& prompts, const ChoiceOptions& options, bool json,
                Recorder* recorder);
/// The config file with the flags over it. Throws UsageError.
GenerateConfig read_generate_config(const GenerateFlags& flags);
/// What the answers are held to; nullptr: nothing. Throws UsageError on more than one form and on a bad
/// regex, Error on a file that holds no form.
std::shared_ptr<const Grammar> form_of(const GenerateConfig& config);

}  // namespace llmtool
