#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "command.h"
#include "generate_io.h"
#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "model_files.h"

namespace llmtool {

namespace {
struct GenerateConfig {
  GenerationOptions options;
  std::vector<int64_t> stop_ids;
  std::string truncate = "none";
  bool ignore_eos = false;

  void visit(ConfigVisitor& v) {
    SamplingOptions& s = options.sampling;
    v.integer("max_new_tokens", options.max_new_tokens, {0, 1 << 24}, "length of an answer");
    v.number("temperature", s.temperature, {0, 1000}, "0: always the likeliest token");
    v.integer("top_k", s.top_k, {0, 1 << 24}, "the k likeliest tokens; 0: all");
    v.number("top_p", s.top_p, {0, 1}, "the fewest tokens that together reach p");
    v.number("min_p", s.min_p, {0, 1}, "tokens with this share of the likeliest's probability");
    v.number("repetition_penalty", s.repetition_penalty, {0.01, 100},
             "of tokens in prompt or answer; 1: none");
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
  }
};

/// The flags that lie over the config: key and JSON value, as given.
struct GenerateFlags {
  CommonFlags common;
  std::string model, tokenizer;
  std::vector<std::string> adapters;
  PromptOptions prompts;
  std::vector<std::pair<std::string, nlohmann::json>> given;
};

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
  return config;
}

void settle_stops(GenerateConfig& config, const Transformer& model, const Tokenizer* tokenizer) {
  auto& ids = config.options.stop_ids;
  ids.assign(config.stop_ids.begin(), config.stop_ids.end());
  if (!ids.empty() || config.ignore_eos) return;
  const auto& known = model.config().stop_ids;
  ids.assign(known.begin(), known.end());
  if (ids.empty() && tokenizer && tokenizer->eos_id() >= 0) ids.push_back(tokenizer->eos_id());
}

/// Answers as plain text: each followed by a line break; streamed on a terminal.
int run_plain(Generator& generator, const Prompts& prompts, const GenerationOptions& options) {
  const bool live = ::isatty(STDOUT_FILENO) != 0;
  struct ReaderGone {};
  const auto out = [](const std::string& text) {
    if (!write_out(text)) throw ReaderGone();
  };
  bool opened = false;
  try {
    const Generator::Stream stream = [&](const std::string& more) {
      // The prompt of an echoed answer is only known when it is done; then everything is written at once.
      if (!options.echo) out(more);
      opened = true;
    };
    generator.run(
        prompts.source,
        [&](const GenerationResult& r) {
          if (options.echo) out(r.prompt);
          if (!opened || options.echo) out(r.text);
          out("\n");
          opened = false;
        },
        live ? stream : Generator::Stream{}, prompts.ready);
  } catch (const ReaderGone&) {
    return 0;
  }
  return 0;
}

int run_json(Generator& generator, const Prompts& prompts, const GenerationOptions& options,
             const Tokenizer* tokenizer) {
  struct ReaderGone {};
  try {
    generator.run(
        prompts.source,
        [&](const GenerationResult& r) {
          const std::string line =
              result_row(r, options, tokenizer)
                  .dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
          if (!write_out(line + "\n")) throw ReaderGone();
        },
        {}, prompts.ready);
  } catch (const ReaderGone&) {
    return 0;
  }
  return 0;
}

int run_generate(GenerateFlags& flags) {
  GenerateConfig config = read_generate_config(flags);
  if (flags.common.print_config) {
    print_json(write_config([&](ConfigVisitor& v) { config.visit(v); }));
    return 0;
  }
  if (flags.model.empty()) throw UsageError("--model: expected a model folder or a run folder");
  ThreadPool pool(flags.common.threads);
  const std::shared_ptr<const ModelSource> files = ModelSource::open(flags.model);
  if (!files->config().generates()) {
    throw UsageError(cat(flags.model, ": expected a decoder with a language model's head, found a ",
                         files->config().model_type, " model for `embed`, `classify` or `fill-mask`"));
  }
  const WeightedAdapters adapters = adapters_named(flags.adapters);
  const auto tokenizer = tokenizer_of(*files, flags.tokenizer, adapters);
  const AdaptedModel adapted(files, adapters);
  const Transformer& model = *adapted.model;
  settle_stops(config, model, tokenizer.get());
  if (!config.options.stop_strings.empty() && !tokenizer)
    throw UsageError("--stop: the model has no tokenizer");
  if (flags.common.json) config.options.logprobs = std::max<int64_t>(0, config.options.logprobs);
  const Prompts prompts = open_prompts(flags.prompts, tokenizer.get());
  Generator generator(model, tokenizer.get(), pool, config.options);
  if (flags.common.json) return run_json(generator, prompts, config.options, tokenizer.get());
  if (!tokenizer)
    throw UsageError(
        "the model has no tokenizer.model that can be read: --json prints ids, or give a --tokenizer");
  return run_plain(generator, prompts, config.options);
}

/// A flag that sets a key of the config.
template <class T>
CLI::Option* add_key(CLI::App& app, std::shared_ptr<GenerateFlags> flags, const char* names, const char* key,
                     const char* help) {
  return app.add_option_function<T>(
      names, [flags, key](const T& value) { flags->given.emplace_back(key, value); }, help);
}

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
  add_key<std::string>(app, f, "--truncate", "truncate", "left: too long a prompt loses its beginning");
}
}  // namespace

void generate_config_keys(ConfigVisitor& v, const std::string&) { GenerateConfig().visit(v); }

std::function<int()> generate_command(CLI::App& app) {
  auto f = std::make_shared<GenerateFlags>();
  app.add_option("--model,-m", f->model,
                 "Model folder (Hugging Face), run folder, checkpoint, .gguf, llama2.c .bin");
  add_adapter_flag(app, f->adapters);
  app.add_option("--tokenizer", f->tokenizer, "Tokenizer (default: the model's)");
  app.add_option("PROMPT", f->prompts.prompts, "Prompts (default: a line each from standard input)");
  app.add_option("--prompt-file,-f", f->prompts.file, "File of prompts");
  app.add_option("--input-format", f->prompts.format, "text (default): a prompt per line; jsonl")
      ->check(CLI::IsMember({"text", "jsonl"}));
  app.add_option("--field", f->prompts.field, "Field of .jsonl rows (default: prompt; or prompt_ids)");
  app.add_flag("-0,--null", f->prompts.nul_separated, "Prompts end with NUL");
  add_sampling_flags(app, f);
  add_common_flags(app, f->common);
  return [f] { return run_generate(*f); };
}

}  // namespace llmtool
