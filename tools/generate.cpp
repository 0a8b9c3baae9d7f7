#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "command.h"
#include "generate_config.h"
#include "generate_io.h"
#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/infer/draft.h"
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

constexpr int kCutShort = 3;  // exit code: an answer is not of the form that it was held to

/// Says so where the form of an answer was cut short.
void report_cut(const GenerationResult& r, int64_t num_samples, int& code) {
  if (r.complete) return;
  code = kCutShort;
  warn(cat("prompt ", r.index + 1, num_samples > 1 ? cat(", answer ", r.sample + 1) : "",
           ": the answer ended before it was whole, after ", r.ids.size(),
           " tokens; a larger --max-new-tokens gives it room"));
}

/// The model that `speculative` names, where it does.
std::unique_ptr<const Transformer> open_draft_model(const GenerateConfig& config,
                                                    const Tokenizer* tokenizer) {
  if (config.speculative == "none" || config.speculative == "lookup") return nullptr;
  const std::shared_ptr<const ModelSource> files = ModelSource::open(config.speculative);
  if (!files->config().generates()) {
    throw UsageError(cat("--speculative ", config.speculative, ": expected lookup or a decoder, found a ",
                         files->config().model_type, " model that writes nothing"));
  }
  const auto own = tokenizer_of(*files, "");
  if (tokenizer && own) check_same_vocabulary(*tokenizer, *own);
  return std::make_unique<const Transformer>(files);
}

/// Answers as plain text: each followed by a line break; streamed on a terminal.
int run_plain(Generator& generator, const Prompts& prompts, const GenerationOptions& options) {
  const bool live = ::isatty(STDOUT_FILENO) != 0;
  struct ReaderGone {};
  const auto out = [](const std::string& text) {
    if (!write_out(text)) throw ReaderGone();
  };
  bool opened = false;
  int code = 0;
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
          report_cut(r, options.num_samples, code);
        },
        live ? stream : Generator::Stream{}, prompts.ready);
  } catch (const ReaderGone&) {
    return 0;
  }
  return code;
}

int run_json(Generator& generator, const Prompts& prompts, const GenerationOptions& options,
             const Tokenizer* tokenizer) {
  struct ReaderGone {};
  int code = 0;
  try {
    generator.run(
        prompts.source,
        [&](const GenerationResult& r) {
          const std::string line =
              result_row(r, options, tokenizer)
                  .dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
          if (!write_out(line + "\n")) throw ReaderGone();
          report_cut(r, options.num_samples, code);
        },
        {}, prompts.ready);
  } catch (const ReaderGone&) {
    return 0;
  }
  return code;
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
  if (!config.options.stop_strings.empty() && !tokenizer)
    throw UsageError("--stop: the model has no tokenizer");
  if (config.options.grammar && !tokenizer)
    throw UsageError("a form for the answers: the model has no tokenizer; give a --tokenizer");
  if (flags.common.json) config.options.logprobs = std::max<int64_t>(0, config.options.logprobs);
  const Prompts prompts = open_prompts(flags.prompts, tokenizer.get());
  if (!config.choices.choices.empty()) {
    if (!tokenizer) throw UsageError("--choices: the model has no tokenizer");
    ChoiceScorer scorer(model, *tokenizer, pool, config.choices);
    return run_choices(scorer, prompts, config.choices, flags.common.json);
  }
  const std::unique_ptr<const Transformer> draft_model = open_draft_model(config, tokenizer.get());
  config.options.draft_model = draft_model.get();
  Generator generator(model, tokenizer.get(), pool, config.options);
  if (flags.common.json) return run_json(generator, prompts, config.options, tokenizer.get());
  if (!tokenizer)
    throw UsageError(
        "the model has no tokenizer.model that can be read: --json prints ids, or give a --tokenizer");
  return run_plain(generator, prompts, config.options);
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
  app.add_option("--input-format", f->prompts.format, "text (default): a prompt per line; jsonl")
      ->check(CLI::IsMember({"text", "jsonl"}));
  app.add_option("--field", f->prompts.field, "Field of .jsonl rows (default: prompt; or prompt_ids)");
  app.add_flag("-0,--null", f->prompts.nul_separated, "Prompts end with NUL");
  add_sampling_flags(app, f);
  add_common_flags(app, f->common);
  return [f] { return run_generate(*f); };
}

}  // namespace llmtool
