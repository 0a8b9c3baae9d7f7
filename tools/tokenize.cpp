#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "command.h"
#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/data/corpus.h"
#include "llmtool/data/token_shard.h"
#include "llmtool/io/files.h"
#include "llmtool/text/train_tokenizer.h"
#include "tokenize_text.h"

namespace llmtool {

namespace {
namespace fs = std::filesystem;

struct TokenizeConfig {
  TokenizerTraining training;
  CorpusOptions corpus;

  void visit(ConfigVisitor& v) {
    v.choice("model_type", training.model_type, {"unigram", "bpe", "word", "char", "byte-bpe"}, "algorithm");
    v.integer("vocab_size", training.vocab_size, {0, 1 << 22}, "pieces; 0: every character (char only)");
    v.number("character_coverage", training.character_coverage, {0, 1},
             "share of characters that get a piece");
    v.boolean("byte_fallback", training.byte_fallback,
              "characters without a piece become bytes (unigram, bpe)");
    v.strings("user_symbols", training.user_symbols, "texts that always are one piece");
    v.integer("min_frequency", training.min_frequency, {0},
              "times that a pair must stand in the text to be merged (byte-bpe)");
    v.integer("max_lines", training.max_lines, {0}, "lines sampled from a larger corpus; 0: all");
    v.string("field", corpus.field, "field of the rows of .jsonl files");
    v.choice("input_format", corpus.format, {"auto", "text", "jsonl"}, "auto: by the file's name");
    v.boolean("strict", corpus.strict, "invalid UTF-8 and NUL are errors");
  }
};

/// Flags lie over the file: each is applied where it was given.
struct TokenizeFlags {
  CommonFlags common;
  std::vector<std::string> inputs;
  std::string model, output, against;
  std::optional<std::string> model_type, field, format;
  std::optional<int64_t> vocab_size, min_frequency, max_lines;
  std::optional<double> coverage;
  std::optional<bool> byte_fallback, add_special, parse_special;
  std::vector<std::string> user_symbols;
  bool strict = false;

  TokenizeConfig config() const {
    TokenizeConfig c;
    read_config(read_config_json(common), [&](ConfigVisitor& v) { c.visit(v); });
    const auto over = [](auto& target, const auto& flag) {
      if (flag) target = *flag;
    };
    over(c.training.model_type, model_type);
    over(c.training.vocab_size, vocab_size);
    over(c.training.max_lines, max_lines);
    over(c.training.min_frequency, min_frequency);
    over(c.training.character_coverage, coverage);
    over(c.training.byte_fallback, byte_fallback);
    if (!user_symbols.empty()) c.training.user_symbols = user_symbols;
    over(c.corpus.field, field);
    over(c.corpus.format, format);
    c.corpus.strict = c.corpus.strict || strict;
    c.corpus.inputs = inputs;
    c.corpus.encoding.parse_special = parse_special;
    if (common.seed) c.training.seed = static_cast<uint64_t>(*common.seed);
    return c;
  }
};

void say_repairs(const CorpusCounts& counts) {
  if (const std::string repairs = counts.repairs(); !repairs.empty()) warn(repairs);
}

int train(const TokenizeFlags& flags) {
  TokenizeConfig config = flags.config();
  if (flags.output.empty()) throw UsageError("--output: expected a folder for the tokenizer");
  if (config.corpus.inputs.empty()) throw UsageError("--input: expected files, folders or globs");
  CorpusCounts counts;
  const TokenizerTrainingResult result = train_tokenizer_on(config.training, config.corpus, counts);
  say_repairs(counts);
  if (result.split_lines) info(cat(result.split_lines, " lines longer than 4096 bytes were split"));
  save_trained_tokenizer(config.training, result, flags.output);
  if (config.training.vocab_size && result.vocab_size != config.training.vocab_size) {
    warn(cat("vocabulary of ", result.vocab_size, " pieces: the text gives no ", config.training.vocab_size));
  }
  if (flags.common.json) {
    print_json({{"output", flags.output},
                {"model_type", config.training.model_type},
                {"vocab_size", result.vocab_size},
                {"bytes", counts.bytes},
                {"documents", counts.documents},
                {"lines", result.lines}});
  } else {
    info(cat("trained a ", config.training.model_type, " tokenizer of ", result.vocab_size, " pieces on ",
             human_bytes(static_cast<double>(counts.bytes)), " of text: ", flags.output));
  }
  return 0;
}

int encode(const TokenizeFlags& flags) {
  TokenizeConfig config = flags.config();
  ThreadPool pool(flags.common.threads);
  const auto tokenizer = load_tokenizer(flags.model);
  if (config.corpus.inputs.empty()) config.corpus.inputs = {"-"};
  CorpusCounts counts;
  // Documents of a training shard stand one behind the other, with EOS between them.
  config.corpus.encoding.add_special_tokens =
      flags.add_special.value_or(flags.output.empty() && tokenizer->adds_special_by_default());
  if (flags.output.empty()) {
    counts = print_ids(pool, *tokenizer, config.corpus, flags.common.json);
  } else {
    fs::path path = flags.output;
    if (fs::is_directory(path) || !path.has_filename()) path /= "tokens.bin";
    if (path.has_parent_path()) fs::create_directories(path.parent_path());
    TokenShardWriter shard(path, *tokenizer);
    const TokenId eos = tokenizer->eos_id();
    counts = encode_corpus(pool, *tokenizer, config.corpus, [&](std::vector<TokenId>&& ids, bool ends) {
      if (ends && eos >= 0) ids.push_back(eos);
      shard.write(ids);
      show_progress(cat("encoded ", human_count(static_cast<double>(shard.count())), " tokens"));
    });
    shard.finish();
    show_progress("");
    if (flags.common.json) {
      print_json({{"output", path.string()},
                  {"tokens", shard.count()},
                  {"documents", counts.documents},
                  {"bytes", counts.bytes}});
    } else {
      info(cat(shard.count(), " tokens of ", counts.documents, " documents: ", path.string()));
    }
  }
  say_repairs(counts);
  return 0;
}

void add_text_flags(CLI::App& app, TokenizeFlags& f) {
  app.add_option("--input-format", f.format, "text, jsonl, or auto: by the file's name")
      ->check(CLI::IsMember({"auto", "text", "jsonl"}));
  app.add_option("--field", f.field, "Field of the rows of .jsonl files (default: text)");
  app.add_flag("--strict", f.strict, "Invalid UTF-8 and NUL are errors, not repaired");
}

/// Two flags, "--parse-special" and "--no-parse-special"; not set where neither is given.
void add_switch(CLI::App& app, const std::string& name, const std::string& no_name,
                std::optional<bool>& value, const std::string& help) {
  CLI::Option* const yes = app.add_flag_callback(
      name, [&value] { value = true; }, help);
  app.add_flag_callback(
         no_name, [&value] { value = false; }, "The opposite")
      ->excludes(yes);
}

void add_special_flags(CLI::App& app, TokenizeFlags& f) {
  add_switch(
      app, "--add-special-tokens", "--no-special-tokens", f.add_special,
      "Put BOS, [CLS] or the like around a text (default: as the tokenizer's own library; not in a shard)");
  add_switch(app, "--parse-special", "--no-parse-special", f.parse_special,
             "Special tokens written in the text become their ids (default: yes; no with a tokenizer.model)");
}

void add_train(CLI::App& parent, std::shared_ptr<TokenizeFlags> f) {
  CLI::App& app =
      *parent.add_subcommand("train", "Train a tokenizer of SentencePiece's kinds or of GPT-2's (byte-bpe)");
  app.add_option("--input", f->inputs,
                 "Files, folders, globs, or - for standard input: .txt, .jsonl, also .gz, .zst");
  app.add_option("--output", f->output,
                 "Folder for tokenizer.json, tokenizer_config.json and tokenizer.model (but byte-bpe)");
  app.add_option("--model-type", f->model_type, "unigram (default), bpe, word, char or byte-bpe")
      ->check(CLI::IsMember({"unigram", "bpe", "word", "char", "byte-bpe"}));
  app.add_option("--vocab-size", f->vocab_size, "Pieces (default: 8000); 0: every character (char only)");
  app.add_option("--character-coverage", f->coverage,
                 "Share of characters that get a piece (default: 0.9999)");
  app.add_option("--byte-fallback", f->byte_fallback,
                 "true (default): characters without a piece become bytes");
  app.add_option("--min-frequency", f->min_frequency,
                 "Times that a pair must stand in the text to be merged (byte-bpe; default: 0)");
  app.add_option("--user-symbol", f->user_symbols, "A text that always is one piece; may be repeated")
      ->allow_extra_args(false);
  app.add_option("--max-lines", f->max_lines,
                 "Lines sampled from a larger corpus (default: 2000000; 0: all)");
  add_text_flags(app, *f);
  add_common_flags(app, f->common);
}
}  // namespace

void tokenize_config_keys(ConfigVisitor& v, const std::string&) { TokenizeConfig().visit(v); }

std::function<int()> tokenize_command(CLI::App& app) {
  auto f = std::make_shared<TokenizeFlags>();
  app.require_subcommand(1);
  app.fallthrough(false);
  add_train(app, f);
  const auto add = [&](const char* name, const char* help) -> CLI::App& {
    CLI::App& sub = *app.add_subcommand(name, help);
    sub.add_option("--model", f->model,
                   "Tokenizer: a model folder, a tokenizer.json, tokenizer.model, .tiktoken or .gguf file")
        ->required();
    sub.add_option("FILE", f->inputs, "Input files (default: standard input)");
    add_common_flags(sub, f->common);
    return sub;
  };
  CLI::App& encode_app = add("encode", "Text to ids: on stdout, a line each, or to a token shard");
  encode_app.add_option("--output", f->output, "Token shard to write (a folder: tokens.bin in it)");
  add_text_flags(encode_app, *f);
  add_special_flags(encode_app, *f);
  CLI::App& template_app = add("template", "Conversations to text, through the model's chat template");
  template_app.add_option("--input-format", f->format, "jsonl: rows {\"messages\", \"tools\", ...}")
      ->check(CLI::IsMember({"jsonl"}));
  CLI::App& check_app = *app.add_subcommand("check", "Compare ids with those that another program gave");
  check_app.add_option("MODEL", f->model, "Tokenizer, as for encode")->required();
  check_app.add_option("--against", f->against, "Rows {\"text\", \"ids\"} and, if they like, {\"decoded\"}")
      ->required();
  add_special_flags(check_app, *f);
  add_plain_flags(check_app, f->common);
  add("decode", "Ids back to text: a line of ids each, or rows with `ids`");
  add_text_flags(add("inspect", "What the tokenizer is, and how it fits a text"), *f);
  for (CLI::App* sub : app.get_subcommands([](CLI::App* s) { return s->get_name() == "decode"; })) {
    sub->add_option("--input-format", f->format, "text (default) or jsonl: rows with `ids`")
        ->check(CLI::IsMember({"auto", "text", "jsonl"}));
  }
  return [f, &app] {
    if (f->common.print_config) {
      TokenizeConfig config = f->config();
      print_json(write_config([&](ConfigVisitor& v) { config.visit(v); }));
      return 0;
    }
    if (app.got_subcommand("train")) return train(*f);
    if (app.got_subcommand("encode")) return encode(*f);
    const auto tokenizer = load_tokenizer(f->model);
    if (app.got_subcommand("check")) {
      const EncodeOptions options{f->add_special.value_or(tokenizer->adds_special_by_default()),
                                  f->parse_special};
      return check_tokenizer(*tokenizer, f->against, options, f->common.json);
    }
    TokenizeConfig config = f->config();
    if (app.got_subcommand("template")) {
      print_rendered(*tokenizer, f->model, config.corpus.inputs, f->common.json);
      return 0;
    }
    if (app.got_subcommand("decode")) {
      print_text(*tokenizer, config.corpus, f->common.json);
      return 0;
    }
    ThreadPool pool(f->common.threads);
    const nlohmann::ordered_json report = inspect_tokenizer(pool, *tokenizer, config.corpus);
    if (f->common.json) {
      print_json(report);
    } else {
      for (const auto& [key, value] : report.items()) {
        std::cout << key << ": " << (value.is_string() ? value.get<std::string>() : value.dump()) << "\n";
      }
    }
    return 0;
  };
}

}  // namespace llmtool
