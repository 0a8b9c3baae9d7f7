// records import and export.

#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>

#include "command.h"
#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/data/row_table.h"
#include "llmtool/io/files.h"
#include "llmtool/io/json_text.h"
#include "llmtool/records/record_rows.h"
#include "records.h"

namespace llmtool {

namespace {
struct ImportFlags {
  StoreFlags store;
  OriginFlags origin;
  AnswerColumns columns;
  std::string file, format = "auto";
};

int run_import(const ImportFlags& flags) {
  const RowTable rows = RowTable::open(flags.file, flags.format);
  // A new database is there with its first rows: a table that cannot be read leaves none.
  std::optional<RecordStore> store;
  const auto open = [&] { store.emplace(flags.store.path, RecordStore::Mode::create); };
  if (std::filesystem::exists(flags.store.path)) open();
  ImportCounts total;
  int64_t failed = 0;
  std::vector<Record> batch;
  const auto write = [&] {
    if (!store) open();
    const ImportCounts counts = store->import(batch);
    total.added += counts.added;
    total.known += counts.known;
    total.completed += counts.completed;
    batch.clear();
  };
  for (int64_t i = 0; i < rows.size(); ++i) {
    const nlohmann::ordered_json row = rows[i];
    if (!has_answer(row)) {
      ++failed;
      continue;
    }
    batch.push_back(record_of_row(row, flags.columns, rows.origin(i)));
    add_origin(flags.origin, batch.back());
    if (batch.size() == 500) write();
  }
  write();
  if (flags.store.json) {
    print_json(
        {{"added", total.added}, {"known", total.known}, {"completed", total.completed}, {"failed", failed}});
    return 0;
  }
  std::cout << "added " << total.added << "; left out " << total.known << " that are on record; completed "
            << total.completed << " by a verdict or an expected answer\n";
  if (failed > 0) std::cout << "left out " << failed << " with an error instead of an answer\n";
  return 0;
}

struct ExportFlags {
  StoreFlags store;
  FilterFlags filter;
  std::string to = "jsonl", output = "-";
};

/// Rows to standard output or to a file that is whole or not there.
class RowWriter {
 public:
  explicit RowWriter(const std::string& path) {
    if (path != "-") file_.emplace(path);
  }
  void write(const nlohmann::ordered_json& row) {
    const std::string line = json_line(row) + "\n";
    if (file_)
      file_->write(line.data(), line.size());
    else
      std::cout << line;
  }
  void commit() {
    if (file_) file_->commit();
  }

 private:
  std::optional<AtomicFile> file_;
};

void report(const ExportFlags& flags, const ExampleRows::Counts& c) {
  info(cat(grouped(c.examples), " of the recommended ", grouped(kRecommendedExamples), " examples"));
  const auto left = [](int64_t count, const char* why) {
    if (count > 0) info(cat("left out: ", grouped(count), " ", why));
  };
  left(c.duplicates, "that are the same as another");
  left(c.unusable, flags.to == "finetune" ? "without an expected answer or a verdict \"right\""
                                          : "that are not wrong with another answer expected");
  left(c.empty, "with an empty prompt or completion");
  if (c.contradictions > 0)
    warn(cat("prompts with several completions: ", grouped(c.contradictions),
             "; is the expected answer clear?"));
  if (flags.store.json)
    print_json({{"examples", c.examples},
                {"recommended", kRecommendedExamples},
                {"duplicates", c.duplicates},
                {"unusable", c.unusable},
                {"empty", c.empty},
                {"contradictions", c.contradictions}});
}

int run_export(const ExportFlags& flags) {
  if (flags.store.json && flags.output == "-")
    throw UsageError("--json: expected an --output beside it, as the rows are on standard output");
  if (flags.output != "-" && std::filesystem::exists(flags.output) &&
      std::filesystem::exists(flags.store.path) &&
      std::filesystem::equivalent(flags.output, flags.store.path))
    throw UsageError(flags.output + ": expected another file than the database");
  const RecordStore store(flags.store.path, RecordStore::Mode::read);
  const RecordFilter filter = filter_of(store, flags.filter);
  RowWriter out(flags.output);
  if (flags.to == "jsonl") {
    int64_t count = 0;
    store.for_each(filter, [&](Record&& r) {
      out.write(row_of_record(r));
      ++count;
    });
    out.commit();
    info(cat(grouped(count), " records"));
    if (flags.store.json) print_json({{"records", count}});
    return 0;
  }
  ExampleRows rows(flags.to == "finetune" ? ExampleRows::Kind::finetune : ExampleRows::Kind::preferences);
  store.for_each(filter, [&](Record&& r) {
    if (const auto row = rows.row(r)) out.write(*row);
  });
  out.commit();
  report(flags, rows.counts());
  return 0;
}
}  // namespace

std::function<int()> records_import(CLI::App& app) {
  auto f = std::make_shared<ImportFlags>();
  add_store_flags(app, f->store, "Print {\"added\", \"known\", \"completed\", \"failed\"}");
  app.add_option(
         "FILE", f->file,
         "JSONL, JSON, CSV or TSV: of `records export --to jsonl`, or a row per answer, as `generate` "
         "writes it; - for standard input")
      ->required();
  app.add_option("--input-format", f->format, "auto (by name), jsonl, json, csv or tsv")
      ->check(CLI::IsMember({"auto", "jsonl", "json", "csv", "tsv"}));
  app.add_option("--prompt-column", f->columns.prompt, "Column of the prompts (default: prompt)");
  app.add_option("--response-column", f->columns.response,
                 "Column of the answers (default: response, choice or text)");
  app.add_option("--expected-column", f->columns.expected, "Column of expected answers (default: expected)");
  add_origin_flags(app, f->origin);
  app.footer(
      "Columns that are no part of an answer become its input. A row that is on record (the same template, "
      "input, prompt, response, sample, model and settings; the same time, if the row says one) is not added "
      "again; it gives the record the verdict or the expected answer that this lacks.");
  return [f] { return run_import(*f); };
}

std::function<int()> records_export(CLI::App& app) {
  auto f = std::make_shared<ExportFlags>();
  add_store_flags(app, f->store, "Print the counts as JSON (with --output)");
  app.add_option("--to", f->to, "jsonl (default), finetune or preferences")
      ->check(CLI::IsMember({"jsonl", "finetune", "preferences"}));
  app.add_option("--output,-o", f->output, "File to write (default: standard output)")->type_name("FILE");
  add_filter_flags(app, f->filter);
  app.footer(
      "jsonl: every field, for `records import`. finetune: {\"prompt\", \"completion\"}, the expected answer "
      "or "
      "one judged right. preferences: {\"prompt\", \"chosen\", \"rejected\"}, the expected answer and one "
      "judged "
      "wrong. Examples that are the same but for spaces are written once.");
  return [f] { return run_export(*f); };
}

}  // namespace llmtool
