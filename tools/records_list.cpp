// records add, list and show.

#include <sys/ioctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <memory>

#include "command.h"
#include "llmtool/core/error.h"
#include "llmtool/io/json.h"
#include "llmtool/io/json_text.h"
#include "llmtool/records/record_rows.h"
#include "llmtool/records/terminal_text.h"
#include "records.h"

namespace llmtool {

namespace {
using Json = nlohmann::ordered_json;

constexpr const char* kRowHelp =
    "With --json a row per record: id, time (UTC), template, template_version, template_text, input, prompt, "
    "response, sample, model, model_hash, settings, settings_hash, tokens, finish_reason, complete (whether "
    "the "
    "response is of the form it was held to; null: none, or unknown), expected, verdict (right, wrong or "
    "null), "
    "judged_by, judged_at.";

void print_row(const Record& record) { std::cout << json_line(row_of_record(record)) << "\n"; }

/// Of the terminal that is printed to, or of the environment's word for it.
int64_t output_columns() {
  winsize size{};
  if (::isatty(STDOUT_FILENO) && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
    return size.ws_col;
  const char* const said = std::getenv("COLUMNS");
  const int64_t columns = said ? std::strtoll(said, nullptr, 10) : 0;
  return columns > 0 ? std::min<int64_t>(columns, 10'000) : 100;
}

const char* verdict_text(const Record& r) { return r.verdict ? verdict_name(*r.verdict) : "-"; }

/// A table whose first columns are as wide as they must be; the last ones share what is left.
class Table {
 public:
  Table(std::vector<std::string> names, size_t texts) : texts_(texts), columns_(output_columns()) {
    add(std::move(names));
  }
  void add(std::vector<std::string> cells) {
    for (std::string& cell : cells) cell = one_line(cell, columns_);
    rows_.push_back(std::move(cells));
  }
  void print() const {
    const size_t count = rows_[0].size(), fixed = count - texts_;
    std::vector<int64_t> widths(count);
    int64_t left = columns_;
    for (size_t i = 0; i < fixed; ++i) {
      // A column in which nothing stands is left out.
      bool empty = rows_.size() > 1;
      for (size_t n = 1; n < rows_.size(); ++n) empty = empty && rows_[n][i].empty();
      for (const auto& row : rows_)
        widths[i] = std::max(widths[i], std::min<int64_t>(24, display_width(row[i])));
      if (empty) widths[i] = 0;
      if (!empty) left -= widths[i] + 2;
    }
    for (size_t i = fixed; i < count; ++i)
      widths[i] =
          std::max<int64_t>(8, (left - 2 * static_cast<int64_t>(texts_ - 1)) / static_cast<int64_t>(texts_));
    for (const auto& row : rows_) std::cout << line(row, widths) << "\n";
  }

 private:
  static std::string line(const std::vector<std::string>& cells, const std::vector<int64_t>& widths) {
    std::string out;
    for (size_t i = 0; i < cells.size(); ++i) {
      if (widths[i] == 0) continue;
      const std::string cell = one_line(cells[i], widths[i]);
      out += cell + std::string(static_cast<size_t>(widths[i] - display_width(cell) + 2), ' ');
    }
    out.erase(out.find_last_not_of(' ') + 1);
    return out;
  }

  size_t texts_;
  int64_t columns_;
  std::vector<std::vector<std::string>> rows_;
};

std::string input_text(const Record& r) { return r.input.is_null() ? r.prompt : plain_text(r.input); }

struct ListFlags {
  StoreFlags store;
  FilterFlags filter;
  std::string verdict;
  int64_t limit = 0;
};

int run_list(const ListFlags& flags) {
  const RecordStore store(flags.store.path, RecordStore::Mode::read);
  RecordFilter filter = filter_of(store, flags.filter);
  using Judged = RecordFilter::Judged;
  filter.judged = flags.verdict == "right"   ? Judged::right
                  : flags.verdict == "wrong" ? Judged::wrong
                  : flags.verdict == "none"  ? Judged::none
                                             : Judged::any;
  filter.newest = flags.limit;
  if (flags.store.json) {
    store.for_each(filter, [](Record&& r) { print_row(r); });
    return 0;
  }
  Table table({"id", "verdict", "time", "template", "model", "input", "response", "expected"}, 3);
  store.for_each(filter, [&](Record&& r) {
    std::string time = r.time.substr(0, 16);
    std::replace(time.begin(), time.end(), 'T', ' ');
    table.add({std::to_string(r.id), verdict_text(r), time, short_text(r.template_id),
               short_text({r.model.name, ""}), input_text(r), r.response, r.expected.value_or("")});
  });
  table.print();
  return 0;
}

void print_whole(const Record& r) {
  const auto field = [](const char* name, const std::string& text) {
    if (!text.empty())
      std::cout << name << std::string(10 - std::string_view(name).size(), ' ') << printable(text) << "\n";
  };
  const auto block = [](const char* name, const std::string& text) {
    std::cout << "--- " << name << "\n" << printable(text) << (text.ends_with('\n') ? "" : "\n");
  };
  field("record", std::to_string(r.id));
  field("time", r.time);
  field("template", r.template_id.text());
  field("model", r.model.text());
  field("settings", plain_text(r.settings));
  field("finish", cat(r.finish_reason, r.complete == false ? ", before the form was whole" : ""));
  field("verdict", r.verdict ? cat(verdict_name(*r.verdict), " by ", r.judged_by, ", ", r.judged_at) : "-");
  field("input", plain_text(r.input));
  block("prompt", r.prompt);
  block("response", r.response);
  if (r.expected) block("expected", *r.expected);
}

struct ShowFlags {
  StoreFlags store;
  std::vector<int64_t> ids;
};

int run_show(const ShowFlags& flags) {
  const RecordStore store(flags.store.path, RecordStore::Mode::read);
  for (size_t i = 0; i < flags.ids.size(); ++i) {
    const Record record = store.get(flags.ids[i]);
    if (flags.store.json) {
      print_row(record);
      continue;
    }
    if (i > 0) std::cout << "\n";
    print_whole(record);
  }
  return 0;
}

struct AddFlags {
  StoreFlags store;
  OriginFlags origin;
  std::string prompt, response, input, verdict, settings;
  std::optional<std::string> expected;
};

Json input_of(const std::string& text) {
  if (text.empty()) return {};
  if (text.find_first_not_of(" \t\r\n") == std::string::npos ||
      text[text.find_first_not_of(" \t\r\n")] != '{')
    return text;
  try {
    return parse_ordered_json(text, "--input");
  } catch (const Error& e) {
    throw UsageError(e.what());
  }
}

int run_add(const AddFlags& flags) {
  Record record;
  record.prompt = flags.prompt;
  record.response = flags.response;
  record.expected = flags.expected;
  record.input = input_of(flags.input);
  if (!flags.settings.empty()) {
    record.settings = input_of(flags.settings);
    if (!record.settings.is_object())
      throw UsageError(cat("--settings: expected a JSON object, found ", flags.settings));
  }
  if (!flags.verdict.empty()) {
    record.verdict = flags.verdict == "right" ? Verdict::right : Verdict::wrong;
    record.judged_by = "person";
  }
  add_origin(flags.origin, record);
  const int64_t id = RecordStore(flags.store.path, RecordStore::Mode::create).add(record);
  if (flags.store.json)
    print_json({{"id", id}});
  else
    std::cout << id << "\n";
  return 0;
}
}  // namespace

std::function<int()> records_add(CLI::App& app) {
  auto f = std::make_shared<AddFlags>();
  add_store_flags(app, f->store, "Print {\"id\"} (default: the number alone)");
  app.add_option("--prompt", f->prompt, "What the model was asked, as it was asked")->required();
  app.add_option("--response", f->response, "What it answered")->required();
  app.add_option("--expected", f->expected, "What it should have answered");
  app.add_option("--verdict", f->verdict, "right or wrong (default: not judged yet)")
      ->check(CLI::IsMember({"right", "wrong"}));
  app.add_option("--input", f->input, "What filled the template: a JSON object of columns, or a text");
  app.add_option("--settings", f->settings, "Settings of the model: a JSON object");
  add_origin_flags(app, f->origin);
  app.footer("The file is begun where there is none.");
  return [f] { return run_add(*f); };
}

std::function<int()> records_list(CLI::App& app) {
  auto f = std::make_shared<ListFlags>();
  add_store_flags(app, f->store, "Print the records whole, a row of JSON each");
  app.add_option("--verdict", f->verdict, "right, wrong, or none: not judged yet")
      ->check(CLI::IsMember({"right", "wrong", "none"}));
  add_filter_flags(app, f->filter);
  app.add_option("--limit", f->limit, "The last N of them (default: all)")
      ->check(CLI::Range(int64_t{1}, INT64_MAX).description(""))
      ->type_name("N");
  app.footer(kRowHelp);
  return [f] { return run_list(*f); };
}

std::function<int()> records_show(CLI::App& app) {
  auto f = std::make_shared<ShowFlags>();
  add_store_flags(app, f->store, "Print a row of JSON each");
  app.add_option("ID", f->ids, "Numbers of records")->required();
  app.footer(kRowHelp);
  return [f] { return run_show(*f); };
}

}  // namespace llmtool
