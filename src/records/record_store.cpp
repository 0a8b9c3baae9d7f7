#include "llmtool/records/record_store.h"

#include <chrono>
#include <cstdio>
#include <ctime>

#include "llmtool/core/error.h"
#include "llmtool/io/files.h"
#include "llmtool/io/json.h"
#include "llmtool/io/json_text.h"
#include "records/database.h"
#include "records/schema.h"
#include "text/unicode.h"

namespace llmtool {

namespace {
using Json = nlohmann::ordered_json;
constexpr int64_t kPage = 200;  // records that are read under one lock

constexpr const char* kColumns =
    "r.id, r.time, t.name, t.version, t.text, r.input, r.prompt, r.response, r.sample, r.model, "
    "r.model_hash, "
    "r.settings_hash, s.json, r.tokens, r.finish_reason, r.expected, r.verdict, r.judged_by, r.judged_at, ";
constexpr const char* kTables =
    " FROM records r LEFT JOIN templates t ON t.id = r.template_id"
    " LEFT JOIN settings s ON s.hash = r.settings_hash";

/// The same text for the same value, however its keys are ordered.
std::string canonical(const Json& value) {
  return value.is_null() ? "" : json_line(Json(nlohmann::json(value)));
}
std::optional<std::string> text_or_null(const std::string& text) {
  return text.empty() ? std::nullopt : std::optional(text);
}

/// As it will be read back.
std::string repaired(const std::string& text) {
  std::string spare;
  return std::string(unicode::well_formed(text, spare));
}

/// What makes two records the same but for when they were made and how they were judged.
std::string content_hash(const Record& r, const Variant& asked_by) {
  const Json content = {asked_by.name, asked_by.version, canonical(r.input),        r.prompt, r.response,
                        r.model.name,  r.model.version,  settings_hash(r.settings), r.sample};
  return version_of_text(json_line(content));
}

Json json_of(const Statement& row, int column, const std::string& origin, const char* what) {
  return row.null(column) ? Json() : parse_ordered_json(row.text(column), cat(origin, ": ", what));
}

Record record_of(const Statement& row, const std::string& name) {
  Record r;
  r.id = row.integer(0);
  const std::string origin = cat(name, ": record ", r.id);
  r.time = row.text(1);
  r.template_id = {row.text(2), row.text(3)};
  r.template_text = row.text(4);
  r.input = json_of(row, 5, origin, "input");
  r.prompt = row.text(6);
  r.response = row.text(7);
  r.sample = row.integer(8);
  r.model = {row.text(9), row.text(10)};
  r.settings_hash = row.text(11);
  r.settings = json_of(row, 12, origin, "settings");
  if (!row.null(13)) r.tokens = row.integer(13);
  r.finish_reason = row.text(14);
  if (!row.null(15)) r.expected = row.text(15);
  if (!row.null(16)) r.verdict = verdict_named(row.text(16), origin);
  r.judged_by = row.text(17);
  r.judged_at = row.text(18);
  if (!row.null(19)) r.complete = row.integer(19) != 0;
  return r;
}

/// Conditions on r and t, and what they are about.
struct Conditions {
  std::string sql = " WHERE 1";
  std::vector<std::string> texts;

  explicit Conditions(const RecordFilter& filter) {
    using Judged = RecordFilter::Judged;
    const char* const judged[] = {"", " AND r.verdict IS NULL", " AND r.verdict IS NOT NULL",
                                  " AND r.verdict = 'right'", " AND r.verdict = 'wrong'"};
    static_assert(static_cast<int>(Judged::wrong) == 4);
    sql += judged[static_cast<int>(filter.judged)];
    add(filter.templates, "(t.name = ? AND t.version = ?)");
    add(filter.models, "(r.model = ? AND r.model_hash = ?)");
    if (filter.newest > 0)
      sql =
          cat(" WHERE r.id IN (SELECT r.id", kTables, sql, " ORDER BY r.id DESC LIMIT ", filter.newest, ")");
  }
  void bind(Statement& statement) const {
    for (const std::string& text : texts) statement.bind(std::string_view(text));
  }

 private:
  void add(const std::vector<Variant>& variants, const char* condition) {
    for (size_t i = 0; i < variants.size(); ++i) {
      sql += cat(i == 0 ? " AND (" : " OR ", condition);
      texts.insert(texts.end(), {variants[i].name, variants[i].version});
    }
    if (!variants.empty()) sql += ")";
  }
};
}  // namespace

/// Everything that one transaction adds.
class RecordStore::Writing {
 public:
  explicit Writing(RecordStore& store) : db_(*store.db_), transaction_(db_) {}

  int64_t add(const Record& r);
  void import(const Record& r, ImportCounts& counts);
  void judge(const Judgement& j);
  void commit() { transaction_.commit(); }
  static Variant template_of(const Record& r);

 private:
  std::optional<int64_t> template_row(const Record& r);

  Database& db_;
  Transaction transaction_;
  Statement insert_{
      db_,
      "INSERT INTO records(time, template_id, input, prompt, response, sample, model, "
      "model_hash, settings_hash, tokens, finish_reason, expected, verdict, judged_by, "
      "judged_at, content, complete) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"};
  Statement find_{db_,
                  "SELECT id, verdict IS NULL, expected IS NULL FROM records "
                  "WHERE content = ? AND (? = '' OR time = ?) ORDER BY id LIMIT 1"};
  Statement find_template_{db_, "SELECT id, text FROM templates WHERE name = ? AND version = ?"};
  Statement judge_{db_,
                   "UPDATE records SET expected = ?, verdict = ?, judged_by = ?, judged_at = ? WHERE id = ?"};
};

Variant RecordStore::Writing::template_of(const Record& r) {
  Variant id = r.template_id;
  if (id.version.empty() && !r.template_text.empty()) id.version = version_of_text(r.template_text);
  return id;
}

std::optional<int64_t> RecordStore::Writing::template_row(const Record& r) {
  const Variant id = template_of(r);
  if (id == Variant()) return {};
  find_template_.again();
  find_template_.bind(std::string_view(id.name)).bind(std::string_view(id.version));
  if (find_template_.step()) {
    const int64_t row = find_template_.integer(0);
    const std::string text = find_template_.text(1);
    if (r.template_text.empty() || text == repaired(r.template_text)) return row;
    if (!text.empty())
      throw UsageError(cat("template ", id.text(), ": was recorded with another text in ", db_.name(),
                           "; give the changed one another version"));
    // It was known by its name alone.
    Statement fill(db_, "UPDATE templates SET text = ? WHERE id = ?");
    fill.bind(std::string_view(r.template_text)).bind(row).step();
    return row;
  }
  Statement add(db_, "INSERT INTO templates(name, version, text) VALUES(?, ?, ?)");
  add.bind(std::string_view(id.name))
      .bind(std::string_view(id.version))
      .bind(std::string_view(r.template_text));
  add.step();
  return db_.last_id();
}

int64_t RecordStore::Writing::add(const Record& r) {
  const std::optional<int64_t> template_id = template_row(r);
  const std::string settings = settings_hash(r.settings);
  if (!settings.empty()) {
    Statement add(db_, "INSERT OR IGNORE INTO settings(hash, json) VALUES(?, ?)");
    add.bind(std::string_view(settings)).bind(std::string_view(json_line(r.settings)));
    add.step();
  }
  const std::string now = utc_now();
  const bool judged = r.verdict.has_value();
  const auto when = [](bool there, const std::string& text) {
    return there ? text_or_null(text) : std::nullopt;
  };
  insert_.again();
  insert_.bind(std::string_view(r.time.empty() ? now : r.time))
      .bind(template_id)
      .bind(text_or_null(r.input.is_null() ? "" : json_line(r.input)))
      .bind(std::string_view(r.prompt))
      .bind(std::string_view(r.response))
      .bind(r.sample)
      .bind(std::string_view(r.model.name))
      .bind(std::string_view(r.model.version))
      .bind(text_or_null(settings))
      .bind(r.tokens)
      .bind(text_or_null(r.finish_reason))
      .bind(r.expected)
      .bind(when(judged, judged ? verdict_name(*r.verdict) : ""))
      .bind(when(judged, r.judged_by))
      .bind(when(judged, r.judged_at.empty() ? now : r.judged_at))
      .bind(std::string_view(content_hash(r, template_of(r))))
      .bind(r.complete ? std::optional<int64_t>(*r.complete) : std::nullopt);
  insert_.step();
  return db_.last_id();
}

void RecordStore::Writing::import(const Record& r, ImportCounts& counts) {
  find_.again();
  find_.bind(std::string_view(content_hash(r, template_of(r))))
      .bind(std::string_view(r.time))
      .bind(std::string_view(r.time));
  if (!find_.step()) {
    add(r);
    ++counts.added;
    return;
  }
  const bool brings_verdict = r.verdict && find_.integer(1), brings_expected = r.expected && find_.integer(2);
  if (!brings_verdict && !brings_expected) {
    ++counts.known;
    return;
  }
  Statement complete(db_,
                     "UPDATE records SET expected = coalesce(expected, ?), judged_by = iif(verdict IS NULL, "
                     "?, judged_by), judged_at = iif(verdict IS NULL, ?, judged_at), "
                     "verdict = coalesce(verdict, ?) WHERE id = ?");
  complete.bind(r.expected)
      .bind(r.verdict ? text_or_null(r.judged_by) : std::nullopt)
      .bind(r.verdict ? std::optional(r.judged_at.empty() ? utc_now() : r.judged_at) : std::nullopt)
      .bind(r.verdict ? std::optional<std::string>(verdict_name(*r.verdict)) : std::nullopt)
      .bind(find_.integer(0));
  complete.step();
  ++counts.completed;
}

void RecordStore::Writing::judge(const Judgement& j) {
  judge_.again();
  judge_.bind(j.expected)
      .bind(j.verdict ? std::optional<std::string>(verdict_name(*j.verdict)) : std::nullopt)
      .bind(j.verdict ? text_or_null(j.judged_by) : std::nullopt)
      .bind(j.verdict ? std::optional(utc_now()) : std::nullopt)
      .bind(j.id);
  judge_.step();
  if (db_.integer("SELECT changes()") == 0)
    throw UsageError(cat(db_.name(), ": record ", j.id, ": there is none of this number"));
}

RecordStore::RecordStore(const std::filesystem::path& path, Mode mode)
    : path_(path), db_(open_schema(path, mode)) {
  columns_ = cat(kColumns, schema_version(*db_) < 2 ? "NULL" : "r.complete");
  if (mode == Mode::read) db_->run("PRAGMA query_only = ON");
}
RecordStore::~RecordStore() = default;
RecordStore::RecordStore(RecordStore&&) noexcept = default;

int64_t RecordStore::add(const Record& record) {
  Writing writing(*this);
  const int64_t id = writing.add(record);
  writing.commit();
  return id;
}

void RecordStore::check_writable() { const Transaction begun(*db_); }

void RecordStore::add(std::span<const Record> records) {
  Writing writing(*this);
  for (const Record& record : records) writing.add(record);
  writing.commit();
}

ImportCounts RecordStore::import(std::span<const Record> records) {
  ImportCounts counts;
  Writing writing(*this);
  for (const Record& record : records) writing.import(record, counts);
  writing.commit();
  return counts;
}

void RecordStore::judge(std::span<const Judgement> judgements) {
  Writing writing(*this);
  for (const Judgement& judgement : judgements) writing.judge(judgement);
  writing.commit();
}

int64_t RecordStore::count(const Record& record, const std::string& from, const std::string& until) const {
  Statement found(*db_, "SELECT count(*) FROM records WHERE content = ? AND time >= ? AND time < ?");
  found.bind(std::string_view(content_hash(record, Writing::template_of(record))))
      .bind(std::string_view(from))
      .bind(std::string_view(until));
  found.step();
  return found.integer(0);
}

Record RecordStore::get(int64_t id) const {
  Statement found(*db_, cat("SELECT ", columns_, kTables, " WHERE r.id = ?"));
  if (!found.bind(id).step())
    throw UsageError(cat(path_.string(), ": record ", id, ": there is none of this number"));
  return record_of(found, path_.string());
}

void RecordStore::for_each(const RecordFilter& filter, const std::function<void(Record&&)>& sink) const {
  const std::vector<int64_t> all = ids(filter);
  std::vector<Record> page;
  for (size_t at = 0; at < all.size();) {
    const size_t end = std::min(all.size(), at + kPage);
    {
      Statement rows(*db_, cat("SELECT ", columns_, kTables, " WHERE r.id = ?"));
      for (; at < end; ++at) {
        rows.again();
        if (rows.bind(all[at]).step()) page.push_back(record_of(rows, path_.string()));
      }
    }
    for (Record& record : page) sink(std::move(record));
    page.clear();
  }
}

std::vector<int64_t> RecordStore::ids(const RecordFilter& filter) const {
  const Conditions conditions(filter);
  Statement rows(*db_, cat("SELECT r.id", kTables, conditions.sql, " ORDER BY r.id"));
  conditions.bind(rows);
  std::vector<int64_t> found;
  while (rows.step()) found.push_back(rows.integer(0));
  return found;
}

namespace {
std::vector<Variant> variants_of(Database& db, const char* sql) {
  Statement rows(db, sql);
  std::vector<Variant> found;
  while (rows.step()) found.push_back({rows.text(0), rows.text(1)});
  return found;
}
}  // namespace

std::vector<Variant> RecordStore::templates() const {
  return variants_of(*db_, "SELECT name, version FROM templates ORDER BY id");
}

std::vector<Variant> RecordStore::models() const {
  return variants_of(*db_,
                     "SELECT model, model_hash FROM records WHERE model != '' OR model_hash != '' "
                     "GROUP BY model, model_hash ORDER BY min(id)");
}

std::vector<Tally> RecordStore::tallies(const RecordFilter& filter) const {
  const Conditions conditions(filter);
  Statement rows(
      *db_,
      cat("SELECT t.name, t.version, r.model, r.model_hash, count(iif(r.verdict = 'right', 1, NULL)), "
          "count(iif(r.verdict = 'wrong', 1, NULL)), count(iif(r.verdict IS NULL, 1, NULL))",
          kTables, conditions.sql, " GROUP BY t.name, t.version, r.model, r.model_hash ORDER BY min(r.id)"));
  conditions.bind(rows);
  std::vector<Tally> found;
  while (rows.step())
    found.push_back({{rows.text(0), rows.text(1)},
                     {rows.text(2), rows.text(3)},
                     rows.integer(4),
                     rows.integer(5),
                     rows.integer(6)});
  return found;
}

std::string utc_now() { return utc_text(std::chrono::system_clock::now()); }

std::string utc_text(std::chrono::system_clock::time_point time) {
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count();
  const std::time_t seconds = micros / 1'000'000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[64], fraction[16];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(fraction, sizeof fraction, ".%06dZ", static_cast<int>(micros % 1'000'000));
  return std::string(text) + fraction;
}

std::string version_of_text(const std::string& text) { return hex(hash64(std::as_bytes(std::span(text)))); }

std::string settings_hash(const nlohmann::ordered_json& settings) {
  return settings.is_null() ? "" : version_of_text(canonical(settings));
}

}  // namespace llmtool
