#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <optional>

#include "command.h"
#include "generate_chat.h"
#include "generate_config.h"
#include "generate_io.h"
#include "generate_prompting.h"
#include "generate_record.h"
#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/core/version.h"
#include "llmtool/infer/draft.h"
#include "llmtool/infer/prompt_memory.h"
#include "llmtool/io/files.h"
#include "model_files.h"

namespace llmtool {

namespace {
void settle_stops(GenerateConfig& config, const Transformer& model, const Tokenizer* tokenizer) {
  auto& ids = config.options.stop_ids;
  ids.assign(config.stop_ids.begin(), config.stop_ids.end());
  if (!ids.empty() || config.ignore_eos) return;
  const auto& known = model.config().stop_ids;
  ids.assign(known.begin(), known.end());
  if (ids.empty() && tokenizer && tokenizer->eos_id() >= 0) ids.push_back(tokenizer->eos_id());
}

/// The model that `speculative` names, where it does.
std::unique_ptr<const Transformer> open_draft_model(const GenerateConfig& config, const Transformer& model,
                                                    const Tokenizer* tokenizer) {
  if (config.speculative == "none" || config.speculative == "lookup") return nullptr;
  const std::shared_ptr<const ModelSource> files = ModelSource::open(config.speculative);
  if (!files->config().generates()) {
    throw UsageError(cat("--speculative ", config.speculative, ": expected lookup or a decoder, found a ",
                         files->config().model_type, " model that writes nothing"));
  }
  const auto own = tokenizer_of(*files, "");
  if (tokenizer && own) {
    check_same_vocabulary(*tokenizer, *own);
  } else if (const int64_t V = model.config().vocab_size; V != files->config().vocab_size) {
    throw UsageError(cat("the draft model: without a tokenizer of both models, expected the model's ", V,
                         " tokens, found ", files->config().vocab_size));
  }
  return std::make_unique<const Transformer>(files);
}

/// Answers as plain text: each followed by a line break; streamed on a terminal.
int run_plain(Generator& generator, const Prompts& prompts, const GenerationOptions& options,
              Recorder* recorder) {
  const bool live = ::isatty(STDOUT_FILENO) != 0;
  bool opened = false;
  int code = 0;
  try {
    const Generator::Stream stream = [&](const std::string& more) {
      // The prompt of an echoed answer is only known when it is done; then everything is written at once.
      if (!options.echo) print_out(more);
      opened = true;
    };
    generator.run(
        prompts.source,
        [&](const GenerationResult& r) {
          if (recorder) recorder->add(r, prompts.input(r.index));
          if (options.echo) print_out(r.prompt);
          if (!opened || options.echo) print_out(r.text);
          print_out("\n");
          opened = false;
          report_cut(r, options, code);
        },
        live ? stream : Generator::Stream{}, prompts.ready);
  } catch (const ReaderGone&) {
    return 0;
  }
  return code;
}

int run_json(Generator& generator, const Prompts& prompts, const GenerationOptions& options,
             const Tokenizer* tokenizer, Recorder* recorder) {
  int code = 0;
  try {
    generator.run(
        prompts.source,
        [&](const GenerationResult& r) {
          if (recorder) recorder->add(r, prompts.input(r.index));
          print_out(json_line(result_row(r, options, tokenizer)) + "\n");
          report_cut(r, options, code);
        },
        {}, prompts.ready);
  } catch (const ReaderGone&) {
    return 0;
  }
  return code;
}

/// A model with what it is run with.
struct Loaded {
  const Transformer& model;
  const Tokenizer* tokenizer;
  ThreadPool& pool;
  const GenerateConfig& config;
  const GenerateFlags& flags;
  Recorder* recorder;

  int64_t context() const { return text_context(model, config.options.context); }
};

/// --dry-run: the prompts as the model would get them, refused and skipped as they would be.
int show_finished(const Loaded& l, const Generator::Source& source) {
  const GenerationOptions& options = l.config.options;
  std::optional<ChoiceScorer> scorer;
  if (l.config.chooses()) {
    ChoiceOptions choices = l.config.choices;
    choices.prompt_cache.clear();  // nothing is read
    scorer.emplace(l.model, *l.tokenizer, l.pool, choices);
  }
  int64_t next = 0;
  const Generator::Source fitted = [&](GenerationRequest& request) {
    while (source(request)) {
      const size_t given = request.ids.size();
      if (request.index >= 0) next = request.index;
      const int64_t index = next++;
      try {
        if (scorer) {
          request.ids = scorer->fit(request, index).prompt;
        } else {
          fit_prompt(request.ids, name_of(request, index), l.context(), l.tokenizer, options);
        }
      } catch (const Error& e) {
        if (!options.skip_failed) throw;
        warn(e.what());
        continue;
      }
      if (request.ids.size() < given && l.tokenizer) request.prompt = l.tokenizer->decode(request.ids);
      return true;
    }
    return false;
  };
  return print_prompts(fitted, l.flags.common.json);
}

int answer_prompts(const Loaded& l) {
  const std::string& format = l.flags.prompts.format;
  if (format != "text" && format != "jsonl")
    throw UsageError(cat("--input-format: ", format, " is read from a table named by --input alone"));
  const GenerationOptions& options = l.config.options;
  PromptOptions from = l.flags.prompts;
  from.keep_inputs = l.recorder != nullptr;
  Prompts prompts =
      open_prompts(from, std::make_shared<const PromptWriter>(l.config.prompt, l.tokenizer), l.tokenizer);
  if (l.flags.dry_run) return show_finished(l, prompts.source);
  if (l.flags.show_prompt) prompts.source = shown_prompts(std::move(prompts.source));
  if (l.config.chooses()) {
    ChoiceScorer scorer(l.model, *l.tokenizer, l.pool, l.config.choices);
    return run_choices(scorer, prompts, l.config.choices, l.flags.common.json, l.recorder);
  }
  Generator generator(l.model, l.tokenizer, l.pool, options);
  return l.flags.common.json ? run_json(generator, prompts, options, l.tokenizer, l.recorder)
                             : run_plain(generator, prompts, options, l.recorder);
}

int answer_table(const Loaded& l, const nlohmann::ordered_json& made_by) {
  const GenerateConfig& c = l.config;
  if (!l.flags.prompts.prompts.empty() || !l.flags.prompts.file.empty())
    throw UsageError("--input: expected no prompts beside it, found some");
  if (c.options.echo) throw UsageError("--echo: a table has the prompts in a column of their own");
  TableRun table(c.table, std::make_shared<const PromptWriter>(c.prompt, l.tokenizer), c.options,
                 l.flags.common.json, l.flags.show_prompt);
  if (l.flags.dry_run) return show_finished(l, table.source());
  table.open_output(made_by, l.flags.overwrite);
  if (c.chooses()) {
    ChoiceScorer scorer(l.model, *l.tokenizer, l.pool, c.choices);
    return table.choose(scorer, c.choices, l.recorder);
  }
  Generator generator(l.model, l.tokenizer, l.pool, c.options);
  return table.answer(generator, l.recorder);
}

int converse(const Loaded& l) {
  const GenerateConfig& c = l.config;
  if (!c.prompt.template_file.empty() || !c.prompt.shots.empty() || l.flags.dry_run || l.flags.show_prompt ||
      c.options.num_samples > 1)
    throw UsageError(
        "a conversation has no --template, --shots, --num-samples, --show-prompt or --dry-run: give prompts, "
        "or rows as --input");
  const int64_t room = l.context() - std::min(c.options.max_new_tokens, l.context() / 2);
  return run_chat(l.model, *l.tokenizer, l.pool, c.options, c.prompt.system, room, l.flags.common.json,
                  l.recorder);
}

/// --chat without prompts, with a person at the terminal.
bool is_conversation(const GenerateConfig& config, const GenerateFlags& flags) {
  return config.prompt.chat && !config.chooses() && flags.prompts.prompts.empty() &&
         flags.prompts.file.empty() && flags.prompts.format == "text" && ::isatty(STDIN_FILENO) != 0;
}

/// What the answers to a table depend on.
nlohmann::ordered_json made_by(GenerateConfig config, const GenerateFlags& flags, const ModelSource& files,
                               const Tokenizer* tokenizer) {
  nlohmann::ordered_json all = {{"llmtool", version()}, {"model", hex(glance_hash(files.path()))}};
  if (tokenizer) all["tokenizer"] = hex(tokenizer->hash());
  for (const auto& [folder, weight] : adapters_named(flags.adapters))
    all["adapters"].push_back({{"folder", hex(glance_hash(folder))}, {"weight", weight}});
  all.update(write_config([&](ConfigVisitor& v) { config.visit(v); }));
  for (const char* key : {"template", "shots", "grammar", "json_schema"}) {  // files, whose contents count
    const std::string file = all.value(key, "");
    if (!file.empty()) all[key] = hex(glance_hash(file));
  }
  for (const char* key :
       {"input", "output", "on_error", "batch_size", "record", "prompt_cache", "speculative", "draft_tokens"})
    all.erase(key);
  all["seed"] = config.options.seed;
  all["json"] = flags.common.json;
  return all;
}

/// Where --record asks for one.
std::optional<Recorder> recorder_of(const GenerateConfig& config, const GenerateFlags& flags,
                                    nlohmann::ordered_json settings) {
  if (config.record.empty() || flags.dry_run) return std::nullopt;
  const Variant model{flags.model, settings["model"]};
  for (const char* key : {"model", "template", "llmtool"})
    settings.erase(key);  // they have places of their own
  PromptSettings prompt = config.prompt;
  if (is_conversation(config, flags)) prompt.field = "messages";  // all of them make the prompt
  return Recorder(config.record, prompt, model, std::move(settings), config.options.grammar != nullptr);
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
  const AdaptedModel adapted(with_context(files, config.context), adapters);
  const Transformer& model = *adapted.model;
  settle_stops(config, model, tokenizer.get());
  settle_sampling(config.options.sampling, config.sampling_texts, tokenizer.get(), model.config().vocab_size);
  if (flags.verbose) info(cat("samplers: ", config.options.sampling.description()));
  if (!config.options.stop_strings.empty() && !tokenizer)
    throw UsageError("--stop: the model has no tokenizer");
  if (config.options.grammar && !tokenizer)
    throw UsageError("a form for the answers: the model has no tokenizer; give a --tokenizer");
  if (flags.common.json) config.options.logprobs = std::max<int64_t>(0, config.options.logprobs);
  const std::unique_ptr<const Transformer> draft_model = open_draft_model(config, model, tokenizer.get());
  config.options.draft_model = draft_model.get();
  if (config.chooses() && !tokenizer) throw UsageError("--choices: the model has no tokenizer");
  const bool kept = !config.table.input.empty() || !config.record.empty();
  const nlohmann::ordered_json settings =
      kept ? made_by(config, flags, *files, tokenizer.get()) : nlohmann::ordered_json();
  std::optional<Recorder> recorder = recorder_of(config, flags, settings);
  const Loaded loaded{model, tokenizer.get(), pool, config, flags, recorder ? &*recorder : nullptr};
  if (!tokenizer && !flags.common.json && config.table.input.empty() && !flags.dry_run)
    throw UsageError(
        "the model has no tokenizer.model that can be read: --json prints ids, or give a --tokenizer");
  if (!config.table.input.empty()) return answer_table(loaded, settings);
  if (!config.table.output.empty())
    throw UsageError("--output: expected the table to answer as --input, found none");
  return is_conversation(config, flags) ? converse(loaded) : answer_prompts(loaded);
}

}  // namespace

std::function<int()> generate_command(CLI::App& app) {
  auto f = std::make_shared<GenerateFlags>();
  app.add_option("--model,-m", f->model,
                 "Model folder (Hugging Face), run folder, checkpoint, .gguf, llama2.c .bin");
  add_adapter_flag(app, f->adapters);
  app.add_option("--tokenizer", f->tokenizer, "Tokenizer (default: the model's)");
  app.add_option("PROMPT", f->prompts.prompts, "Prompts (default: a line each from standard input)");
  app.add_option("--prompt-file,-f", f->prompts.file, "File of prompts");
  app.add_option("--input-format", f->prompts.format,
                 "text (default): a prompt per line; jsonl; of --input also json, csv, tsv")
      ->check(CLI::IsMember({"text", "jsonl", "json", "csv", "tsv"}))
      ->group("Prompts");
  app.add_option("--field", f->prompts.field, "Field of .jsonl rows (default: prompt; or prompt_ids)")
      ->group("Prompts");
  app.add_flag("-0,--null", f->prompts.nul_separated, "Prompts end with NUL")->group("Prompts");
  add_sampling_flags(app, f);
  add_common_flags(app, f->common);
  return [f] { return run_generate(*f); };
}

}  // namespace llmtool
