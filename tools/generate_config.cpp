#include "generate_config.h"

#include <CLI/CLI.hpp>

#include "llmtool/core/error.h"
#include "llmtool/grammar/gbnf.h"
#include "llmtool/grammar/json_schema.h"
#include "llmtool/grammar/regex_grammar.h"
#include "llmtool/io/files.h"
#include "llmtool/io/json.h"

namespace llmtool {

void GenerateConfig::visit(ConfigVisitor& v) {
  SamplingOptions& s = options.sampling;
  v.integer("max_new_tokens", options.max_new_tokens, {0, 1 << 24}, "length of an answer");
  v.number("temperature", s.temperature, {0, 1000}, "0: always the likeliest token");
  v.integer("top_k", s.top_k, {0, 1 << 24}, "the k likeliest tokens; 0: all");
  v.number("top_p", s.top_p, {0, 1}, "the fewest tokens that together reach p");
  v.number("min_p", s.min_p, {0, 1}, "tokens with this share of the likeliest's probability");
  v.number("repetition_penalty", s.repetition_penalty, {0.01, 100}, "of tokens in prompt or answer; 1: none");
  v.number("frequency_penalty", s.frequency_penalty, {-100, 100}, "per occurrence in the answer");
  v.number("presence_penalty", s.presence_penalty, {-100, 100}, "of tokens in the answer");
  v.strings("stop", options.stop_strings, "texts that end an answer");
  v.integers("stop_ids", stop_ids, {0, INT32_MAX}, "token ids that end an answer; empty: the model's");
  v.boolean("ignore_eos", ignore_eos, "go on behind the model's own stop ids");
  v.integer("num_samples", options.num_samples, {1, 1 << 20}, "answers to each prompt");
  v.integer("batch_size", options.batch_size, {1, 4096}, "sequences decoded together");
  v.choice("truncate", truncate, {"none", "left"}, "left: a prompt that is too long loses its beginning");
  v.integer("logprobs", options.logprobs, {-1, 1 << 20},
            "with the log-probabilities of --json, the k likeliest tokens; -1: none");
  v.boolean("echo", options.echo, "the prompt, too (and its log-probabilities)");
  v.string("regex", regex, "hold answers to this regular expression; none: \"\"");
  v.string("grammar", grammar, "hold answers to the grammar of this GBNF file; none: \"\"");
  v.string("json_schema", json_schema, "hold answers to JSON that this schema file calls valid; none: \"\"");
}

GenerateConfig read_generate_config(const GenerateFlags& flags) {
  nlohmann::json json = read_config_json(flags.common);
  for (const auto& [key, value] : flags.given) json[key] = value;
  GenerateConfig config;
  read_config(json, [&](ConfigVisitor& v) { config.visit(v); });
  config.options.seed = static_cast<uint64_t>(flags.common.seed.value_or(0));
  config.options.truncate_left = config.truncate == "left";
  for (const std::string& stop : config.options.stop_strings) {
    if (stop.empty()) throw UsageError("stop: expected a text, found an empty one");
  }
  config.options.grammar = form_of(config);
  return config;
}

std::shared_ptr<const Grammar> form_of(const GenerateConfig& config) {
  const std::pair<const char*, const std::string*> forms[] = {
      {"regex", &config.regex}, {"grammar", &config.grammar}, {"json_schema", &config.json_schema}};
  const char* given = nullptr;
  for (const auto& [key, value] : forms) {
    if (value->empty()) continue;
    if (given) throw UsageError(cat(key, ": expected one form at most, found ", given, " beside it"));
    given = key;
  }
  if (!config.regex.empty()) return parse_regex_grammar(config.regex, "regex");
  if (!config.grammar.empty()) return parse_gbnf(read_file(config.grammar), config.grammar);
  if (!config.json_schema.empty()) {
    return parse_json_schema(read_json(config.json_schema), config.json_schema);
  }
  return nullptr;
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
  add_key<double>(app, f, "--temperature,--temp", "temperature", "0: the likeliest token (default: 0.8)");
  add_key<int64_t>(app, f, "--top-k", "top_k", "Choose among the k likeliest tokens");
  add_key<double>(app, f, "--top-p", "top_p", "Choose among the fewest tokens that reach p");
  add_key<double>(app, f, "--min-p", "min_p", "Drop tokens below this share of the likeliest");
  add_key<double>(app, f, "--repetition-penalty,--repeat-penalty", "repetition_penalty",
                  "Of tokens seen; 1: none");
  add_key<double>(app, f, "--frequency-penalty", "frequency_penalty", "Per occurrence in the answer");
  add_key<double>(app, f, "--presence-penalty", "presence_penalty", "Of tokens in the answer");
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
  add_key<std::string>(app, f, "--regex", "regex", "Hold answers to this regular expression");
  add_key<std::string>(app, f, "--grammar", "grammar", "Hold answers to the grammar of this GBNF file");
  add_key<std::string>(app, f, "--json-schema", "json_schema",
                       "Hold answers to JSON that this schema file calls valid");
  add_key<std::string>(app, f, "--truncate", "truncate", "left: too long a prompt loses its beginning");
}

void generate_config_keys(ConfigVisitor& v, const std::string&) { GenerateConfig().visit(v); }

}  // namespace llmtool
