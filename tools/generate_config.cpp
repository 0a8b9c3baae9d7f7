#include "generate_config.h"

#include <CLI/CLI.hpp>
#include <set>

#include "generate_prompting.h"
#include "llmtool/core/error.h"
#include "llmtool/grammar/gbnf.h"
#include "llmtool/grammar/json_schema.h"
#include "llmtool/grammar/regex_grammar.h"
#include "llmtool/io/files.h"
#include "llmtool/io/json.h"

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
  v.choice("kv_cache_type", kv_cache_type, {"f32", "f16", "q8_0"}, "storage of keys and values");
  v.integer("num_beams", options.num_beams, {1, 256}, "beams of a search for the likeliest answers; 1: none");
  v.number("length_penalty", options.length_penalty, {-10, 10},
           "power of the length that scores are divided by");
  v.choice("early_stopping", early_stopping, {"no", "yes", "never"},
           "of beams: yes, at num_beams answers; never, while some may be better");
  v.integer("best_of", options.best_of, {1, 4096}, "answers of which the likeliest by its mean is given");
  v.integer("context", context.context, {0, 1 << 24}, "positions of prompt and answer; 0: the model's");
  v.choice("rope_scaling", context.scaling, {"none", "linear", "dynamic", "yarn"},
           "reaches beyond the trained context");
  v.number("rope_factor", context.factor, {0, 1024}, "of rope_scaling; 0: the context over the trained one");
  v.string("prompt_cache", options.prompt_cache,
           "file that keeps what was read of a first prompt, for prompts that begin alike");
  v.string("speculative", speculative, "none; lookup: drafts from the text; or the path of a draft model");
  v.integer("draft_tokens", options.draft_tokens, {1, 64}, "tokens drafted at a time, at most");
  v.alternatives("choices", choices.choices, "texts of which the likeliest is chosen, instead of writing");
  v.choice("choices_normalize", choices_normalize, {"none", "tokens", "bytes"},
           "what a choice's log-probability is divided by");
  visit_prompting(v, prompt, table);
  v.string("record", record, "database (SQLite) that every answer is written to");
  v.boolean("echo", options.echo, "the prompt, too (and its log-probabilities)");
  v.string("regex", regex, "hold answers to this regular expression; none: \"\"");
  v.string("grammar", grammar, "hold answers to the grammar of this GBNF file; none: \"\"");
  v.string("json_schema", json_schema, "hold answers to JSON that this schema file calls valid; none: \"\"");
}

namespace {
/// Flags that say how a sampler works which is off.
void check_sampler_flags(const GenerateFlags& flags, const SamplingOptions& s) {
  const struct {
    const char *key, *needs;
    bool on;
  } details[] = {{"dynatemp_exponent", "--dynatemp-range", s.dynatemp_range > 0},
                 {"xtc_threshold", "--xtc-probability", s.xtc_probability > 0},
                 {"mirostat_tau", "--mirostat 2", s.mirostat == 2},
                 {"mirostat_eta", "--mirostat 2", s.mirostat == 2},
                 {"dry_base", "--dry-multiplier", s.dry_multiplier > 0},
                 {"dry_allowed_length", "--dry-multiplier", s.dry_multiplier > 0},
                 {"dry_penalty_last_n", "--dry-multiplier", s.dry_multiplier > 0},
                 {"dry_sequence_breakers", "--dry-multiplier", s.dry_multiplier > 0}};
  for (const auto& [key, value] : flags.given) {
    for (const auto& detail : details) {
      if (key == detail.key && !detail.on)
        throw UsageError(cat(key, ": means nothing without ", detail.needs));
    }
  }
}

/// Flags that do nothing beside others are refused: choices are scored, not written, and beams do not sample.
/// So is the empty value that switches a form off: in a script it is a variable that nobody set.
void check_flags(const GenerateFlags& flags, const GenerateConfig& config) {
  const std::set<std::string> of_beams = {"length_penalty", "early_stopping"};
  const std::set<std::string> of_writing = {
      "max_new_tokens", "stop",        "stop_ids",     "ignore_eos",     "num_samples",   "batch_size",
      "logprobs",       "echo",        "regex",        "grammar",        "json_schema",   "num_beams",
      "best_of",        "speculative", "draft_tokens", "length_penalty", "early_stopping"};
  const std::vector<std::string> of_samples = sampling_keys();
  const bool scores = config.chooses(), beams = config.options.num_beams > 1;
  for (const auto& [key, value] : flags.given) {
    const auto refuse = [&key = key](const char* why) {
      throw UsageError(cat(key, ": means nothing ", why));
    };
    const bool form = key == "regex" || key == "grammar" || key == "json_schema";
    if (form && value == "") throw UsageError(cat(key, ": expected a form, found an empty value"));
    const bool samples = std::find(of_samples.begin(), of_samples.end(), key) != of_samples.end();
    if (scores && (samples || of_writing.contains(key))) refuse("beside --choices, which writes no text");
    if (!scores && key.starts_with("choices")) refuse("without --choices");
    if (!beams && of_beams.contains(key)) refuse("without --num-beams");
    if (beams && samples) refuse("beside --num-beams, which does not sample");
    if (key == "draft_tokens" && config.speculative == "none") refuse("without --speculative");
    if ((key == "num_shots" || key == "shot_selection") && config.prompt.shots.empty())
      refuse("without --shots");
    if (key == "on_error" && config.table.input.empty()) refuse("without --input");
    if (key == "logprobs" && !flags.common.json) refuse("without --json");
  }
  if (flags.overwrite && config.table.output.empty())
    throw UsageError("--overwrite: means nothing without --output");
  if (flags.prompts.nul_separated && !config.table.input.empty())
    throw UsageError("--null: means nothing beside --input, whose rows are those of a table");
}
}  // namespace

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
  config.options.kv_cache_type = config.choices.kv_cache_type = kv_cache_type(config.kv_cache_type);
  config.choices.prompt_cache = config.options.prompt_cache;
  config.options.look_up = config.speculative == "lookup";
  config.options.skip_failed = !config.table.input.empty() && config.table.on_error == "skip";
  config.options.context = config.choices.context = config.context.context;
  using Early = GenerationOptions::EarlyStopping;
  config.options.early_stopping = config.early_stopping == "no"    ? Early::no
                                  : config.early_stopping == "yes" ? Early::yes
                                                                   : Early::never;
  config.choices.truncate_left = config.options.truncate_left;
  using Normalize = ChoiceOptions::Normalize;
  config.choices.normalize = config.choices_normalize == "none"     ? Normalize::none
                             : config.choices_normalize == "tokens" ? Normalize::tokens
                                                                    : Normalize::bytes;
  check_flags(flags, config);
  check_sampler_flags(flags, config.options.sampling);
  for (const std::string& stop : config.options.stop_strings) {
    if (stop.empty()) throw UsageError("stop: expected a text, found an empty one");
  }
  check_files(config);
  config.options.grammar = form_of(config);
  if (config.options.grammar && config.chooses())
    throw UsageError("choices: expected no regex, grammar or json_schema beside them, found one");
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
  try {
    if (!config.grammar.empty()) return parse_gbnf(read_file(config.grammar), config.grammar);
    if (!config.json_schema.empty()) return read_json_schema(config.json_schema);
  } catch (const UsageError& e) {
    throw Error(e.what());  // the program is used well, the file is bad
  }
  return nullptr;
}

namespace {
/// A flag that sets a key of the config.
template <class T>
CLI::Option* add_key(CLI::App& app, std::shared_ptr<GenerateFlags> flags, const char* names, const char* key,
                     const char* help, const char* group = "Options") {
  return app
      .add_option_function<T>(
          names, [flags, key](const T& value) { flags->given.emplace_back(key, value); }, help)
      ->group(group);
}

/// How answers are found, and how the model runs.
void add_running_flags(CLI::App& app, const std::shared_ptr<GenerateFlags>& f) {
  add_key<int64_t>(app, f, "--num-beams", "num_beams", "Beam search with so many beams, without sampling",
                   "Search");
  add_key<double>(app, f, "--length-penalty", "length_penalty",
                  "Of beams: above 0 favours long answers (default: 1)", "Search");
  add_key<std::string>(app, f, "--early-stopping", "early_stopping",
                       "Of beams: yes, at as many answers as beams; never, while some may be better",
                       "Search")
      ->check(CLI::IsMember({"no", "yes", "never"}));
  add_key<int64_t>(app, f, "--best-of", "best_of", "Give the likeliest of so many answers, by its mean",
                   "Search");
  add_key<int64_t>(app, f, "--context", "context", "Positions of prompt and answer (default: the model's)",
                   "Speed");
  add_key<std::string>(app, f, "--rope-scaling", "rope_scaling",
                       "linear, dynamic or yarn: beyond the trained context", "Speed")
      ->check(CLI::IsMember({"linear", "dynamic", "yarn"}));
  add_key<double>(app, f, "--rope-factor", "rope_factor", "Of --rope-scaling (default: by the context)",
                  "Speed");
  add_key<std::string>(
      app, f, "--prompt-cache", "prompt_cache",
      "File that keeps what was read of a first prompt, for runs whose prompts begin alike; delete it "
      "for another beginning",
      "Speed");
  add_key<std::string>(app, f, "--speculative", "speculative",
                       "lookup, or a draft model: the same text, checked several tokens at a time", "Speed");
  add_key<int64_t>(app, f, "--draft-tokens", "draft_tokens", "Tokens drafted at a time (default: 8)",
                   "Speed");
  app.add_option_function<std::vector<std::string>>(
         "--choices",
         [f](const std::vector<std::string>& lists) {
           nlohmann::json all = nlohmann::json::array();
           for (const std::string& list : lists) {
             for (const std::string& choice : split_choices(list)) all.push_back(choice);
           }
           f->given.emplace_back("choices", std::move(all));
         },
         "A,B,...: the likeliest of these texts behind each prompt; may be repeated, \\, is a comma")
      ->allow_extra_args(false)
      ->group("Forms");
  add_key<std::string>(app, f, "--choices-normalize", "choices_normalize",
                       "Divide by the choice's tokens or bytes (default: none)", "Forms")
      ->check(CLI::IsMember({"none", "tokens", "bytes"}));
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
  add_key<int64_t>(app, f, "--batch-size", "batch_size", "Sequences decoded together (default: 8)", "Speed");
  add_key<int64_t>(app, f, "--logprobs", "logprobs", "With --json: the k likeliest tokens at each place");
  app.add_flag_callback(
      "--echo", [f] { f->given.emplace_back("echo", true); }, "The prompt, too (and its log-probabilities)");
  add_key<std::string>(app, f, "--regex", "regex", "Hold answers to this regular expression", "Forms");
  add_key<std::string>(app, f, "--grammar", "grammar", "Hold answers to the grammar of this GBNF file",
                       "Forms");
  add_key<std::string>(app, f, "--json-schema", "json_schema",
                       "Hold answers to JSON that this schema file calls valid", "Forms");
  add_key<std::string>(app, f, "--kv-cache-type", "kv_cache_type",
                       "f32 (default), f16 or q8_0: of keys and values", "Speed")
      ->check(CLI::IsMember({"f32", "f16", "q8_0"}));
  add_key<std::string>(app, f, "--truncate", "truncate", "left: too long a prompt loses its beginning");
  add_running_flags(app, f);
  app.add_flag("--verbose,-v", f->verbose, "Say on stderr what acts on the logits");
  add_sampler_flags(app, f);
  add_prompting_flags(app, f);
}

void generate_config_keys(ConfigVisitor& v, const std::string&) { GenerateConfig().visit(v); }

}  // namespace llmtool
