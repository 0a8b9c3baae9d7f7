// records compare and stats.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <memory>

#include "command.h"
#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/records/comparison.h"
#include "llmtool/records/record_rows.h"
#include "llmtool/records/statistics.h"
#include "llmtool/records/terminal_text.h"
#include "records.h"

namespace llmtool {

namespace {
using Json = nlohmann::ordered_json;

struct CompareFlags {
  StoreFlags store;
  FilterFlags filter;
  std::string by = "template", first, second;
  bool rows = false;
};

/// The one template or model that is meant.
Variant one_variant(const RecordStore& store, const CompareFlags& flags, const std::string& selector) {
  const bool templates = flags.by == "template";
  const auto found = select_variants(templates ? store.templates() : store.models(), selector,
                                     templates ? "template" : "model");
  if (found.size() == 1) return found[0];
  std::string there;
  for (const Variant& v : found) there += cat(there.empty() ? "" : ", ", v.text());
  throw UsageError(cat(flags.by, " ", selector, ": expected one of its versions, which are ", there));
}

/// What else differs between the two sides, and so may be the cause.
void warn_of_other(const RecordStore& store, const CompareFlags& flags, const RecordFilter& a,
                   const RecordFilter& b) {
  const bool templates = flags.by == "template";
  const auto others = [&](const RecordFilter& filter) {
    std::set<std::string> names;
    for (const Tally& t : store.tallies(filter)) names.insert((templates ? t.model : t.template_id).text());
    return names;
  };
  const auto first = others(a), second = others(b);
  if (first.size() <= 1 && first == second) return;
  const char* const other = templates ? "model" : "template";
  warn(cat("the answers are of more than one ", other, ", which may be why they differ; --", other,
           " chooses one"));
}

Json side_json(const Variant& v, int64_t right, int64_t compared) {
  Json json = {{"name", v.name}, {"version", v.version}};
  json.update(accuracy_json(right, compared - right));
  return json;
}

Json rows_json(const RecordStore& store, const Comparison& c) {
  Json rows = Json::array();
  for (const DifferingRow& row : c.differing)
    rows.push_back({{"input", Json::parse(row.input)},
                    {"right", row.first_right ? "a" : "b"},
                    {"a", {{"id", row.first}, {"response", store.get(row.first).response}}},
                    {"b", {{"id", row.second}, {"response", store.get(row.second).response}}}});
  return rows;
}

void print_rows(const RecordStore& store, const Comparison& c) {
  const auto line = [](const char* side, bool right, const Record& r) {
    std::cout << "  " << side << (right ? " right  " : " wrong  ") << one_line(r.response, 80) << "  (record "
              << r.id << ")\n";
  };
  for (const DifferingRow& row : c.differing) {
    std::cout << one_line(row.input, 100) << "\n";
    line("A", row.first_right, store.get(row.first));
    line("B", !row.first_right, store.get(row.second));
  }
}

void print_comparison(const Comparison& c, const Variant& a, const Variant& b) {
  const auto side = [&](const char* name, const Variant& v, int64_t right) {
    std::cout << name << "  " << printable(v.text()) << ": " << right << " of " << c.compared() << " right, "
              << share_text(right, c.compared()) << "\n";
  };
  side("A", a, c.right_first());
  side("B", b, c.right_second());
  char text[256];
  std::snprintf(text, sizeof text, "both right %lld, A alone %lld, B alone %lld, both wrong %lld\n",
                static_cast<long long>(c.both), static_cast<long long>(c.only_first),
                static_cast<long long>(c.only_second), static_cast<long long>(c.neither));
  std::cout << text;
  std::snprintf(text, sizeof text, "McNemar's exact test, two-sided: p = %.4g\n",
                mcnemar_p(c.only_first, c.only_second));
  std::cout << text;
  const auto left = [](int64_t count, const char* what) {
    if (count > 0) std::cout << "not compared: " << count << " " << what << "\n";
  };
  left(c.unjudged, "inputs with an answer that is not judged");
  left(c.unpaired_first, "inputs that A alone answered");
  left(c.unpaired_second, "inputs that B alone answered");
  left(c.repeated, "answers with a later one to the same input");
}

int run_compare(const CompareFlags& flags) {
  const bool templates = flags.by == "template";
  if (!(templates ? flags.filter.template_id : flags.filter.model).empty())
    throw UsageError(cat("--", flags.by, ": is what A and B are compared by"));
  const RecordStore store(flags.store.path, RecordStore::Mode::read);
  const Variant a = one_variant(store, flags, flags.first), b = one_variant(store, flags, flags.second);
  if (a == b) throw UsageError(cat("A and B: expected two of them, found ", a.text(), " twice"));
  RecordFilter first = filter_of(store, flags.filter), second = first;
  (templates ? first.templates : first.models) = {a};
  (templates ? second.templates : second.models) = {b};
  warn_of_other(store, flags, first, second);
  const Comparison c = compare(store, first, second);
  if (c.compared() == 0)
    throw Error(cat("nothing could be compared: expected inputs that both answered, with verdicts; found ",
                    c.unjudged, " with an answer that is not judged, ", c.unpaired_first,
                    " that A alone answered, and ", c.unpaired_second, " that B alone answered"));
  if (!flags.store.json) {
    print_comparison(c, a, b);
    if (flags.rows) print_rows(store, c);
    return 0;
  }
  Json json = {{"by", flags.by},
               {"a", side_json(a, c.right_first(), c.compared())},
               {"b", side_json(b, c.right_second(), c.compared())},
               {"compared", c.compared()},
               {"both_right", c.both},
               {"only_a", c.only_first},
               {"only_b", c.only_second},
               {"both_wrong", c.neither},
               {"test", "mcnemar exact two-sided"},
               {"p", mcnemar_p(c.only_first, c.only_second)},
               {"unjudged", c.unjudged},
               {"unpaired_a", c.unpaired_first},
               {"unpaired_b", c.unpaired_second},
               {"repeated", c.repeated}};
  if (flags.rows) json["rows"] = rows_json(store, c);
  print_json(json);
  return 0;
}

struct StatsFlags {
  StoreFlags store;
  FilterFlags filter;
};

int run_stats(const StatsFlags& flags) {
  const RecordStore store(flags.store.path, RecordStore::Mode::read);
  const RecordFilter filter = filter_of(store, flags.filter);
  const std::vector<Tally> tallies = store.tallies(filter);
  ExampleRows finetune(ExampleRows::Kind::finetune), preferences(ExampleRows::Kind::preferences);
  store.for_each(filter, [&](Record&& r) {
    finetune.row(r);
    preferences.row(r);
  });
  if (flags.store.json) {
    Json groups = Json::array();
    for (const Tally& t : tallies) {
      Json group = {{"template", t.template_id.name},
                    {"template_version", t.template_id.version},
                    {"model", t.model.name},
                    {"model_hash", t.model.version},
                    {"unjudged", t.unjudged}};
      group.update(accuracy_json(t.right, t.wrong));
      groups.push_back(std::move(group));
    }
    print_json({{"groups", std::move(groups)},
                {"examples", finetune.counts().examples},
                {"preferences", preferences.counts().examples},
                {"recommended", kRecommendedExamples}});
    return 0;
  }
  for (const Tally& t : tallies) {
    const auto named = [](const Variant& v) { return v == Variant() ? "-" : printable(short_text(v)); };
    std::cout << named(t.template_id) << "  " << named(t.model) << "  " << t.right << " right, " << t.wrong
              << " wrong, " << t.unjudged << " not judged; accuracy "
              << share_text(t.right, t.right + t.wrong) << "\n";
  }
  std::cout << "to fine-tune on: " << grouped(finetune.counts().examples) << " of the recommended "
            << grouped(kRecommendedExamples)
            << " examples; preference pairs: " << grouped(preferences.counts().examples) << "\n";
  return 0;
}
}  // namespace

std::function<int()> records_compare(CLI::App& app) {
  auto f = std::make_shared<CompareFlags>();
  add_store_flags(app, f->store, "Print the comparison as JSON");
  app.add_option("A", f->first, "A template or model, as --template and --model name it")->required();
  app.add_option("B", f->second, "Another")->required();
  app.add_option("--by", f->by, "template (default) or model")->check(CLI::IsMember({"template", "model"}));
  app.add_flag("--rows", f->rows, "Also the inputs where one alone is right");
  add_filter_flags(app, f->filter);
  app.footer(
      "Answers are joined by their input (the prompt where there is none); of several to one input the last "
      "that is judged counts. p is that of McNemar's exact test, two-sided: how likely two that are equally "
      "good would differ so much.\nWith --json: {\"by\", \"a\", \"b\": {\"name\", \"version\", \"right\", "
      "\"wrong\", \"accuracy\", \"interval\"}, \"compared\", \"both_right\", \"only_a\", \"only_b\", "
      "\"both_wrong\", \"test\", \"p\", \"unjudged\", \"unpaired_a\", \"unpaired_b\", \"repeated\"}; with "
      "--rows "
      "\"rows\": [{\"input\", \"right\": \"a\" or \"b\", \"a\", \"b\": {\"id\", \"response\"}}].");
  return [f] { return run_compare(*f); };
}

std::function<int()> records_stats(CLI::App& app) {
  auto f = std::make_shared<StatsFlags>();
  add_store_flags(app, f->store, "Print the counts as JSON");
  add_filter_flags(app, f->filter);
  app.footer(
      "With --json: {\"groups\": [{\"template\", \"template_version\", \"model\", \"model_hash\", "
      "\"unjudged\", "
      "\"right\", \"wrong\", \"accuracy\", \"interval\"}], \"examples\", \"preferences\", \"recommended\"}.");
  return [f] { return run_stats(*f); };
}

}  // namespace llmtool
