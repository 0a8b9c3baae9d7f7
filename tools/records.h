#pragma once
// What the subcommands of `records` share.

#include <functional>
#include <string>

#include "llmtool/records/record_store.h"

namespace CLI {
class App;
}

namespace llmtool {

/// The database, and how its results are printed.
struct StoreFlags {
  std::string path;
  bool json = false;
};
void add_store_flags(CLI::App& app, StoreFlags& flags, const char* json_help);

/// Which records: --template, --model.
struct FilterFlags {
  std::string template_id, model;
};
void add_filter_flags(CLI::App& app, FilterFlags& flags);
RecordFilter filter_of(const RecordStore& store, const FilterFlags& flags);

/// Where answers come from: --template FILE, --template-version, --model.
struct OriginFlags {
  std::string template_file, template_version, model;
};
void add_origin_flags(CLI::App& app, OriginFlags& flags);
/// Fills in what the record itself does not say.
void add_origin(const OriginFlags& flags, Record& record);

/// "0.775 (0.625 to 0.877)": the share with its Wilson interval of 95 %; "-" of nothing.
std::string share_text(int64_t hits, int64_t total);
/// {"right", "wrong", "accuracy", "interval"}; accuracy and interval are null where nothing is judged.
nlohmann::ordered_json accuracy_json(int64_t right, int64_t wrong);
std::string grouped(int64_t count);  // "1,000"
/// The last part of the name and the first of the version: "sentiment.txt@3f2a9c".
std::string short_text(const Variant& variant);

struct JudgedCounts {
  int64_t right = 0, wrong = 0;
};
/// Shows the records one by one and asks for a verdict, each of which is written at once.
JudgedCounts judge_by_person(RecordStore& store, const std::vector<int64_t>& ids, bool again);

// Each subcommand describes itself and returns what to run.
std::function<int()> records_add(CLI::App& app);
std::function<int()> records_list(CLI::App& app);
std::function<int()> records_show(CLI::App& app);
std::function<int()> records_judge(CLI::App& app);
std::function<int()> records_import(CLI::App& app);
std::function<int()> records_export(CLI::App& app);
std::function<int()> records_compare(CLI::App& app);
std::function<int()> records_stats(CLI::App& app);

}  // namespace llmtool
