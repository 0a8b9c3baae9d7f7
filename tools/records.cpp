#include "records.h"

#include <CLI/CLI.hpp>
#include <cstdio>

#include "command.h"
#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/io/files.h"
#include "llmtool/records/statistics.h"

namespace llmtool {

namespace {
struct Row {
  const char *name, *description;
  std::function<int()> (*describe)(CLI::App& app);
};
const Row kSubcommands[] = {
    {"add", "Record an answer", records_add},
    {"list", "Print records, a line each", records_list},
    {"show", "Print records whole", records_show},
    {"judge", "Say which answers are right: by hand, by a rule or by a column of truth", records_judge},
    {"import", "Record the rows of a table of answers, or of another record", records_import},
    {"export", "Write records, or examples to train on, as JSONL", records_export},
    {"compare", "Compare two templates or two models, input by input", records_compare},
    {"stats", "Count answers by template and model", records_stats},
};
}  // namespace

void add_store_flags(CLI::App& app, StoreFlags& flags, const char* json_help) {
  app.add_option("DB", flags.path, "SQLite file of records")->required();
  app.add_flag("--json", flags.json, json_help)->group("Common");
  app.add_flag_callback(
         "--quiet", [] { set_quiet(true); }, "Say nothing but warnings and errors")
      ->group("Common");
}

void add_filter_flags(CLI::App& app, FilterFlags& flags) {
  app.add_option("--template", flags.template_id,
                 "Of this template: its name, name@version, or a version or its first characters")
      ->type_name("NAME");
  app.add_option("--model", flags.model, "Of this model: its name, the name's last part, or its hash")
      ->type_name("NAME");
}

RecordFilter filter_of(const RecordStore& store, const FilterFlags& flags) {
  RecordFilter filter;
  if (!flags.template_id.empty())
    filter.templates = select_variants(store.templates(), flags.template_id, "template");
  if (!flags.model.empty()) filter.models = select_variants(store.models(), flags.model, "model");
  return filter;
}

void add_origin_flags(CLI::App& app, OriginFlags& flags) {
  app.add_option("--template", flags.template_file, "File of the prompt template")
      ->check(CLI::ExistingFile.description(""))
      ->type_name("FILE");
  app.add_option("--template-version", flags.template_version, "Its version (default: a hash of its text)")
      ->needs("--template");
  app.add_option("--model", flags.model, "What answered")->type_name("NAME");
}

void add_origin(const OriginFlags& flags, Record& record) {
  if (!flags.template_file.empty() && record.template_id == Variant()) {
    record.template_text = read_file(flags.template_file);
    record.template_id = {flags.template_file, flags.template_version};
  }
  if (record.model == Variant()) record.model.name = flags.model;
}

std::string share_text(int64_t hits, int64_t total) {
  if (total == 0) return "-";
  const Interval i = wilson_interval(hits, total);
  char text[64];
  std::snprintf(text, sizeof text, "%.3f (%.3f to %.3f)",
                static_cast<double>(hits) / static_cast<double>(total), i.low, i.high);
  return text;
}

nlohmann::ordered_json accuracy_json(int64_t right, int64_t wrong) {
  nlohmann::ordered_json json = {
      {"right", right}, {"wrong", wrong}, {"accuracy", nullptr}, {"interval", nullptr}};
  if (right + wrong == 0) return json;
  const Interval i = wilson_interval(right, right + wrong);
  json["accuracy"] = static_cast<double>(right) / static_cast<double>(right + wrong);
  json["interval"] = {i.low, i.high};
  return json;
}

std::string grouped(int64_t count) {
  std::string text = std::to_string(count);
  for (size_t at = text.size(); at > 3;) text.insert(at -= 3, ",");
  return text;
}

std::string short_text(const Variant& variant) {
  const std::string last = std::filesystem::path(variant.name).filename().string();
  return Variant{last.empty() ? variant.name : last, variant.version.substr(0, 6)}.text();
}

std::function<int()> records_command(CLI::App& app) {
  app.require_subcommand(1);
  app.fallthrough(false);
  std::vector<std::pair<CLI::App*, std::function<int()>>> commands;
  for (const Row& row : kSubcommands) {
    CLI::App* const sub = app.add_subcommand(row.name, row.description);
    commands.emplace_back(sub, row.describe(*sub));
  }
  return [commands] {
    for (const auto& [sub, run] : commands) {
      if (sub->parsed()) return run();
    }
    return 2;
  };
}

}  // namespace llmtool
