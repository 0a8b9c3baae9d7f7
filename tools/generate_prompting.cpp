#include "generate_prompting.h"

#include <CLI/CLI.hpp>

#include "generate_config.h"

namespace llmtool {

void visit_prompting(ConfigVisitor& v, PromptSettings& prompt, TableSettings& table) {
  v.string("template", prompt.template_file, "file of the prompt, with {column} slots; {{ and }} are braces");
  v.boolean("chat", prompt.chat, "prompts are what a user says, written by the model's chat template");
  v.string("system", prompt.system, "the system message of a chat");
  v.string("shots", prompt.shots,
           "file of rows with answers, which stand in front of the prompt as examples");
  v.integer("num_shots", prompt.num_shots, {1, 1 << 20},
            "so many of them; null: 4, or all where there are fewer");
  v.choice("shot_selection", prompt.shot_selection, {"fixed", "random", "bm25"},
           "the first, some by seed and row, or the nearest to the prompt");
  v.string("shot_answer", prompt.shot_answer,
           "their column with the answer; empty: completion, output, answer, response or label");
  v.string("shot_separator", prompt.shot_separator, "text between them, where there is no chat");
  v.string("input", table.input, "table whose rows are asked (.jsonl, .json, .csv, .tsv; .gz, .zst)");
  v.string("output", table.output, "table of the answers (.jsonl or .csv), continued where it stopped");
  v.choice("on_error", table.on_error, {"stop", "skip"},
           "what to do about a row that cannot be asked or answered; skip: write why");
}

void add_prompting_flags(CLI::App& app, const std::shared_ptr<GenerateFlags>& f) {
  const auto add = [&](const char* name, const char* key, const char* help, const char* type) {
    app.add_option_function<std::string>(
           name, [f, key](const std::string& value) { f->given.emplace_back(key, value); }, help)
        ->type_name(type)
        ->group("Prompts");
  };
  add("--template", "template", "File of the prompt, with {column} slots", "FILE");
  app.add_flag_callback(
         "--chat", [f] { f->given.emplace_back("chat", true); },
         "Prompts are what a user says, written by the model's chat template; a conversation where none are "
         "given on a terminal")
      ->group("Prompts");
  add("--system", "system", "System message of a chat", "TEXT");
  add("--shots", "shots", "Rows with answers, examples in front of the prompt", "FILE");
  app.add_option_function<int64_t>(
         "--num-shots", [f](const int64_t& n) { f->given.emplace_back("num_shots", n); },
         "So many examples (default: 4)")
      ->group("Prompts");
  add("--shot-answer", "shot_answer", "Their column with the answer (default: the usual one that is there)",
      "COLUMN");
  add("--shot-selection", "shot_selection", "fixed (default), random, bm25: the nearest to the prompt",
      "HOW");
  add("--input", "input", "Table whose rows are asked (.jsonl, .json, .csv, .tsv; .gz, .zst)", "FILE");
  add("--output", "output", "Table of the answers (.jsonl or .csv), continued where it stopped", "FILE");
  app.add_flag("--overwrite", f->overwrite, "Begin the output anew")->group("Prompts");
  add("--on-error", "on_error",
      "Of a row that cannot be asked or answered: stop (default), or skip and write why", "HOW");
  add("--record", "record", "Database (SQLite) that every answer is written to", "DB");
  app.add_flag("--show-prompt", f->show_prompt, "Print finished prompts on stderr")->group("Prompts");
  app.add_flag("--dry-run", f->dry_run, "Print finished prompts and answer none")->group("Prompts");
}

}  // namespace llmtool
