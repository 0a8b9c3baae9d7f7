#include "generate_config.h"

#include <CLI/CLI.hpp>

#include "generate_prompting.h"
#include "llmtool/core/error.h"

namespace llmtool {

void GenerateConfig::visit(ConfigVisitor& v) {
  v.integer("max_new_tokens", options.max_new_tokens, {0, 1 << 24}, "length of an answer");
  visit_sampling(v, options.sampling, sampling_texts);
  v.strings("stop", options.stop_strings, "texts that end an answer");
  v.integers("stop_ids", stop_ids, {0, INT32_MAX}, "token ids that end an answer; empty: the model's");
  v.boolean("ignore_eos", ignore_eos, "go on behind the model's own stop ids");
  v.integer("num_samples", options.num_samples, {1, 1 << 20}, "answers to each prompt");
  v.integer("batch_size", options.batch_size, {1, 4096}, "sequences decoded together");
  v.choice("truncate", truncate, {"none", "left"}, "left: a prompt that is too long loses its beginning");
  v.integer("logprobs", options.logprobs, {-1, 1 << 20},
            "with the log-probabilities of --json, the k likeliest tokens; -1: none");
  visit_prompting(v, prompt, table);
  v.string("record", record, "database (SQLite) that every answer is written to");
  v.boolean("echo", options.echo, "the prompt, too (and its log-probabilities)");
}

GenerateConfig read_generate_config(const GenerateFlags& flags) {
  nlohmann::json json = read_config_json(flags.common);
  for (const auto& [key, value] : flags.given) json[key] = value;
  GenerateConfig config;
  read_config(json, [&](ConfigVisitor& v) { config.visit(v); });
  config.options.seed = static_cast<uint64_t>(flags.common.seed.value_or(0));
  config.prompt.seed = config.options.seed;
  config.prompt.field = flags.prompts.field;
  config.table.input_format = flags.prompts.format == "text" ? "auto" : flags.prompts.format;
  config.options.truncate_left = config.truncate == "left";
  for (const std::string& stop : config.options.stop_strings) {
    if (stop.empty()) throw UsageError("stop: expected a text, found an empty one");
  }
  return config;
}

namespace {
/// A flag that sets a key of the config.
template <class T>
CLI::Option* add_key(CLI::App& app, std::shared_ptr<GenerateFlags> flags, const char* names, const char* key,
                     const char* help) {
  return app.add_option_function<T>(
      names, [flags, key](const T& value) { flags->given.emplace_back(key, value); }, help);
}
}  // namespace

void add_sampling_flags(CLI::App& app, const std::shared_ptr<GenerateFlags>& f) {
  add_key<int64_t>(app, f, "-n,--max-new-tokens,--n-predict", "max_new_tokens",
                   "Tokens of an answer (default: 128)");
  add_key<std::vector<std::string>>(app, f, "--stop", "stop", "Text that ends an answer; may be repeated")
      ->allow_extra_args(false);
  add_key<std::vector<int64_t>>(app, f, "--stop-id,--eos-token-id", "stop_ids",
                                "Id that ends an answer; may be repeated")
      ->allow_extra_args(false);
  app.add_flag_callback(
      "--ignore-eos", [f] { f->given.emplace_back("ignore_eos", true); },
      "Go on behind the model's stop ids");
  add_key<int64_t>(app, f, "--num-samples", "num_samples", "Answers to each prompt (default: 1)");
  add_key<int64_t>(app, f, "--batch-size", "batch_size", "Sequences decoded together (default: 8)");
  add_key<int64_t>(app, f, "--logprobs", "logprobs", "With --json: the k likeliest tokens at each place");
  app.add_flag_callback(
      "--echo", [f] { f->given.emplace_back("echo", true); }, "The prompt, too (and its log-probabilities)");
  add_key<std::string>(app, f, "--truncate", "truncate", "left: too long a prompt loses its beginning");
  app.add_flag("--verbose,-v", f->verbose, "Say on stderr what acts on the logits");
  add_sampler_flags(app, f);
  add_prompting_flags(app, f);
}

void generate_config_keys(ConfigVisitor& v, const std::string&) { GenerateConfig().visit(v); }

}  // namespace llmtool
