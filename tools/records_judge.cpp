// records judge: by a rule, by a column of truth, or by hand.

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <optional>
#include <unordered_map>

#include "command.h"
#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/data/row_table.h"
#include "llmtool/io/json.h"
#include "llmtool/io/json_text.h"
#include "llmtool/records/judge.h"
#include "llmtool/records/record_rows.h"
#include "records.h"

namespace llmtool {

namespace {
struct JudgeFlags {
  StoreFlags store;
  FilterFlags filter;
  bool exact = false, json_equal = false, keep_space = false, all = false;
  std::optional<std::string> regex;
  std::string truth, key, column, format = "auto";

  bool by_rule() const { return exact || json_equal || regex || !truth.empty(); }
};

/// What was expected, by a table of the user's.
class Truth {
 public:
  /// `ids`: of the records that rows in order stand for.
  Truth(const JudgeFlags& flags, const std::vector<int64_t>& ids) : key_(flags.key) {
    const RowTable rows = RowTable::open(flags.truth, flags.format);
    if (key_.empty() && rows.size() != static_cast<int64_t>(ids.size()))
      throw UsageError(cat(flags.truth, ": expected a row for each of the ", ids.size(), " records, found ",
                           rows.size(), "; --key joins them by a column of the input"));
    for (int64_t i = 0; i < rows.size(); ++i) {
      const nlohmann::ordered_json row = rows[i];
      const std::string truth = cell(row, flags.column, rows.origin(i));
      if (key_.empty()) {
        by_id_[ids[static_cast<size_t>(i)]] = truth;
        continue;
      }
      const auto [at, is_new] = by_key_.emplace(cell(row, key_, rows.origin(i)), truth);
      if (!is_new && at->second != truth)
        throw UsageError(cat(rows.origin(i), ": ", key_, " ", shown(at->first), ": expected one ",
                             flags.column, " for it, found another in an earlier row"));
    }
  }

  std::optional<std::string> of(const Record& r) const {
    if (key_.empty()) return found(by_id_, r.id);
    if (r.input.is_object() && !r.input.contains(key_)) return {};
    return found(by_key_, r.input.is_object() ? plain_text(r.input[key_])
                          : r.input.is_null() ? r.prompt
                                              : plain_text(r.input));
  }

 private:
  static std::string cell(const nlohmann::ordered_json& row, const std::string& name,
                          const std::string& origin) {
    if (!row.contains(name)) throw UsageError(cat(origin, ": ", name, ": expected a column of this name"));
    return plain_text(row[name]);
  }
  static std::optional<std::string> found(const auto& map, const auto& key) {
    const auto at = map.find(key);
    return at == map.end() ? std::nullopt : std::optional(at->second);
  }
  std::string key_;
  std::unordered_map<std::string, std::string> by_key_;
  std::unordered_map<int64_t, std::string> by_id_;
};

struct RuleCounts : JudgedCounts {
  int64_t no_expected = 0, no_truth = 0, expected_not_json = 0;
};

RuleCounts judge_by_rule(RecordStore& store, const JudgeFlags& flags, RecordFilter filter) {
  const Judge judge({flags.json_equal ? JudgeRule::Kind::json_equal
                     : flags.regex    ? JudgeRule::Kind::regex
                                      : JudgeRule::Kind::exact,
                     flags.regex.value_or(""), flags.keep_space});
  std::optional<Truth> truth;
  if (!flags.truth.empty()) truth.emplace(flags, store.ids(filter));
  if (!flags.all) filter.judged = RecordFilter::Judged::none;
  RuleCounts counts;
  std::vector<Judgement> judged;
  const auto write = [&] {
    store.judge(judged);
    judged.clear();
  };
  int64_t total = 0;
  store.for_each(filter, [&](Record&& r) {
    ++total;
    if (truth) {
      const auto expected = truth->of(r);
      if (!expected) return void(++counts.no_truth);
      r.expected = expected;
    }
    switch (const auto outcome = judge.judge(r)) {
      case Judge::Outcome::no_expected:
        return void(++counts.no_expected);
      case Judge::Outcome::expected_not_json:
        return void(++counts.expected_not_json);
      default: {
        const bool right = outcome == Judge::Outcome::right;
        ++(right ? counts.right : counts.wrong);
        judged.push_back({r.id, right ? Verdict::right : Verdict::wrong, judge.name(), r.expected});
      }
    }
    if (judged.size() == 500) write();
  });
  write();
  if (!flags.key.empty() && counts.no_truth > 0 && counts.no_truth == total)
    warn(cat("--key ", flags.key, ": no record's input matches a row of ", flags.truth));
  return counts;
}

void check_flags(const JudgeFlags& flags) {
  const int rules = flags.exact + flags.json_equal + flags.regex.has_value();
  if (rules > 1) throw UsageError("expected one of --exact, --regex and --json-equal, found several");
  if (!flags.truth.empty() && flags.regex)
    throw UsageError("--truth: expected --exact or --json-equal beside it, found --regex");
  if (flags.truth.empty() != flags.column.empty())
    throw UsageError("--truth FILE and --column NAME go together");
  if (flags.truth.empty() && (!flags.key.empty() || flags.format != "auto"))
    throw UsageError("--key and --input-format: expected a --truth that they are about");
  if (flags.keep_space && (flags.json_equal || !flags.by_rule()))
    throw UsageError("--keep-space: expected --exact or --regex beside it");
}

int run_judge(const JudgeFlags& flags) {
  check_flags(flags);
  RecordStore store(flags.store.path, RecordStore::Mode::write);
  RecordFilter filter = filter_of(store, flags.filter);
  RuleCounts c;
  if (flags.by_rule()) {
    c = judge_by_rule(store, flags, filter);
  } else {
    if (!flags.all) filter.judged = RecordFilter::Judged::none;
    static_cast<JudgedCounts&>(c) = judge_by_person(store, store.ids(filter), flags.all);
  }
  if (flags.store.json) {
    nlohmann::ordered_json json = {{"judged", c.right + c.wrong}};
    json.update(accuracy_json(c.right, c.wrong));
    json["left"] = {
        {"no_expected", c.no_expected}, {"no_truth", c.no_truth}, {"expected_not_json", c.expected_not_json}};
    print_json(json);
    return 0;
  }
  std::cout << "judged " << c.right + c.wrong << ": " << c.right << " right, " << c.wrong << " wrong";
  if (c.right + c.wrong > 0)
    std::cout << "; accuracy " << share_text(c.right, c.right + c.wrong) << ", Wilson's interval of 95 %";
  std::cout << "\n";
  const auto left = [](int64_t count, const char* why) {
    if (count > 0) std::cout << "left alone: " << count << " " << why << "\n";
  };
  left(c.no_expected, "without an expected answer");
  left(c.no_truth, "without a row of --truth");
  left(c.expected_not_json, "whose expected answer is no JSON");
  return 0;
}
}  // namespace

std::function<int()> records_judge(CLI::App& app) {
  auto f = std::make_shared<JudgeFlags>();
  add_store_flags(app, f->store, "Print the counts as JSON");
  app.add_flag("--exact", f->exact, "Right is what equals the expected answer, but for white space around");
  app.add_option("--regex", f->regex, "Right is a response that matches this as a whole (PCRE2)");
  app.add_flag("--json-equal", f->json_equal, "Right is the same JSON as the expected answer");
  app.add_flag("--keep-space", f->keep_space, "White space around counts, too (--exact, --regex)");
  app.add_option("--truth", f->truth, "Table of expected answers, which are recorded: JSONL, JSON, CSV, TSV")
      ->type_name("FILE");
  app.add_option("--column", f->column, "Its column of expected answers");
  app.add_option("--key", f->key,
                 "Column of the table and of the inputs that joins them; of records without columns it is "
                 "the text that "
                 "was asked (default: a row per record, in order)")
      ->type_name("COLUMN");
  app.add_option("--input-format", f->format, "Of --truth: auto (by name), jsonl, json, csv or tsv")
      ->check(CLI::IsMember({"auto", "jsonl", "json", "csv", "tsv"}));
  app.add_flag("--all", f->all, "Also what is judged already, by people too");
  add_filter_flags(app, f->filter);
  app.footer(
      "Without a rule a person judges: keys on a terminal, else lines of standard input. Each verdict is "
      "written at once.\nWith --json: {\"judged\", \"right\", \"wrong\", \"accuracy\", \"interval\": [low, "
      "high] "
      "(Wilson, 95 %), \"left\": {\"no_expected\", \"no_truth\", \"expected_not_json\"}}.");
  return [f] { return run_judge(*f); };
}

}  // namespace llmtool
