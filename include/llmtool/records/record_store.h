#pragma once
// RecordStore: a SQLite file of what a model was asked, what came back, and whether that was right.

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace llmtool {

enum class Verdict { right, wrong };
const char* verdict_name(Verdict verdict);  // "right"

/// A template or a model, in one of its versions.
struct Variant {
  std::string name, version;  // version of a model: the hash of its weights
  bool operator==(const Variant&) const = default;
  std::string text() const;  // "name@version"
};

/// One answer. Text that is no UTF-8 is stored with U+FFFD in place of what is broken.
struct Record {
  int64_t id = 0;       // the store's
  std::string time;     // UTC, "2026-05-01T12:00:00.000000Z"; "": when it is added
  Variant template_id;  // a template without a version gets the hash of its text, 16 hex digits
  std::string template_text;
  nlohmann::ordered_json input;  // the row's columns, or a text; null: none
  std::string prompt, response;  // as the model got and gave them
  int64_t sample = 0;            // of several answers to one prompt
  Variant model;
  nlohmann::ordered_json settings;  // an object; null: unknown
  std::string settings_hash;        // the store's: of the settings with sorted keys
  std::optional<int64_t> tokens;    // of the response
  std::string finish_reason;
  std::optional<bool> complete;  // whether the response is of its form; none: it was held to none, or unknown
  std::optional<std::string> expected;
  std::optional<Verdict> verdict;
  std::string judged_by, judged_at;  // "person", "exact", ...; time
};

/// What a judge says of a record; it replaces what was said before.
struct Judgement {
  int64_t id = 0;
  std::optional<Verdict> verdict;
  std::string judged_by;
  std::optional<std::string> expected;
};

struct RecordFilter {
  enum class Judged { any, none, judged, right, wrong };
  Judged judged = Judged::any;
  std::vector<Variant> templates, models;  // any of these; empty: all
  int64_t newest = 0;                      // so many, the last ones; 0: all
};

/// How many answers of a template and a model were judged how.
struct Tally {
  Variant template_id, model;
  int64_t right = 0, wrong = 0, unjudged = 0;
};

/// What became of rows from elsewhere.
struct ImportCounts {
  int64_t added = 0, known = 0, completed = 0;  // completed: known, but not their verdict or expected answer
};

/// Several processes may use one file at once; one RecordStore belongs to one thread. What a call has written
/// when it returns is on the disk. Throws Error naming the file: what is no such database, is of a newer
/// llmtool, damaged, read-only or held by another process for half a minute is refused and left as it is.
/// Tables of an older llmtool are read as they are, and brought up to date where the file is opened to write.
class RecordStore {
 public:
  enum class Mode { read, write, create };  // create: begins the file where there is none
  /// Throws UsageError where the file is missing.
  RecordStore(const std::filesystem::path& path, Mode mode);
  ~RecordStore();
  RecordStore(RecordStore&&) noexcept;

  /// Throws Error where nothing can be written: another process keeps it too long, or the file may only be
  /// read.
  void check_writable();
  /// The record's id. Throws UsageError where the template's version was recorded with another text.
  int64_t add(const Record& record);
  /// The same in one transaction, all or none, as one waits for the disk some milliseconds.
  void add(std::span<const Record> records);
  /// Adds, in one transaction, those that are not there: with the same question, answer, template, model,
  /// settings and sample, and at the same time if they say one. One that is there gets the verdict and the
  /// expected answer that it lacks.
  ImportCounts import(std::span<const Record> records);
  /// How many are there with this one's question, answer, template, model, settings and sample, made from
  /// `from` on and before `until`.
  int64_t count(const Record& record, const std::string& from, const std::string& until) const;
  /// In one transaction. Throws UsageError on an id that is not there.
  void judge(std::span<const Judgement> judgements);

  Record get(int64_t id) const;  // throws UsageError where there is none
  /// Calls sink for each record, by id. No lock is held while it runs.
  void for_each(const RecordFilter& filter, const std::function<void(Record&&)>& sink) const;
  std::vector<int64_t> ids(const RecordFilter& filter) const;
  std::vector<Variant> templates() const;
  std::vector<Variant> models() const;
  std::vector<Tally> tallies(const RecordFilter& filter) const;
  const std::filesystem::path& path() const { return path_; }

 private:
  class Writing;
  std::filesystem::path path_;
  std::unique_ptr<class Database> db_;
  std::string columns_;  // of a record, in SQL
};

/// Those of `known` that `selector` names: a name, "name@version", or a version or at least four of its
/// first characters; of a path its last part will do. Throws UsageError, with what there is, where none is;
/// `what` is "template" or "model".
std::vector<Variant> select_variants(const std::vector<Variant>& known, const std::string& selector,
                                     const char* what);

std::string utc_text(std::chrono::system_clock::time_point time);  // "2026-05-01T12:00:00.000000Z"
std::string utc_now();
/// 16 hex digits that name a text, as a template's version does; of settings their keys' order does not
/// count.
std::string version_of_text(const std::string& text);
std::string settings_hash(const nlohmann::ordered_json& settings);  // "" for null

}  // namespace llmtool
