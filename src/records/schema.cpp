#include "records/schema.h"

#include "llmtool/core/error.h"
#include "llmtool/io/json.h"

namespace llmtool {

namespace {
namespace fs = std::filesystem;
constexpr int64_t kApplication = 0x6C6D7263;  // "lmrc": what SQLite's header says the file is for
constexpr int64_t kVersion = 2;               // 2: records.complete

// A template, and settings, are kept once for all the records that share them.
constexpr const char* kTables = R"(
CREATE TABLE templates(
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL, version TEXT NOT NULL, text TEXT NOT NULL,
  UNIQUE(name, version));
CREATE TABLE settings(hash TEXT PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE records(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  time TEXT NOT NULL,
  template_id INTEGER REFERENCES templates(id),
  input TEXT,                        -- JSON: the row's columns, or a text
  prompt TEXT NOT NULL, response TEXT NOT NULL, sample INTEGER NOT NULL,
  model TEXT NOT NULL, model_hash TEXT NOT NULL,
  settings_hash TEXT REFERENCES settings(hash),
  tokens INTEGER, finish_reason TEXT, complete INTEGER CHECK(complete IN (0, 1)),
  expected TEXT,
  verdict TEXT CHECK(verdict IN ('right', 'wrong')), judged_by TEXT, judged_at TEXT,
  content TEXT NOT NULL);            -- hash of question, answer, template, model, settings and sample
CREATE INDEX records_by_content ON records(content);
)";

/// In a transaction, so that of two processes one makes the tables.
void begin_database(Database& db) {
  Transaction transaction(db);
  if (db.integer("SELECT count(*) FROM sqlite_master") == 0) {
    db.run(kTables);
    db.run(cat("PRAGMA application_id = ", kApplication));
    db.run(cat("PRAGMA user_version = ", kVersion));
  }
  transaction.commit();
}

void check_database(Database& db) {
  const int64_t application = db.integer("PRAGMA application_id"), version = schema_version(db);
  if (application != kApplication)
    throw Error(cat(db.name(), ": expected a database of llmtool's records, found another one"));
  if (version > kVersion)
    throw Error(cat(db.name(), ": made by a newer llmtool: expected tables of version ", kVersion, ", found ",
                    version));
  if (version < 1)
    throw Error(cat(db.name(), ": expected tables of version ", kVersion, ", found ", version));
}

/// In a transaction, too, so that of two processes one changes the tables.
void migrate(Database& db) {
  Transaction transaction(db);
  if (schema_version(db) < 2) {
    db.run("ALTER TABLE records ADD COLUMN complete INTEGER CHECK(complete IN (0, 1))");
    db.run("PRAGMA user_version = 2");
  }
  transaction.commit();
}
}  // namespace

int64_t schema_version(Database& db) { return db.integer("PRAGMA user_version"); }

std::unique_ptr<Database> open_schema(const fs::path& path, RecordStore::Mode mode) {
  const bool create = mode == RecordStore::Mode::create;
  const bool there = fs::exists(path);
  if (!there && !create)
    throw UsageError(cat(path.string(),
                         ": expected a database of records, found nothing; `llmtool records add` ",
                         "and `llmtool generate --record` begin one"));
  if (there && fs::is_directory(path)) throw Error(cat(path.string(), ": expected a file, found a folder"));
  auto db = std::make_unique<Database>(path, create);
  // Nothing is written into a file that holds something else.
  if (create && db->integer("SELECT count(*) FROM sqlite_master") == 0) begin_database(*db);
  check_database(*db);
  if (mode != RecordStore::Mode::read && schema_version(*db) < kVersion) migrate(*db);
  return db;
}

const char* verdict_name(Verdict verdict) { return verdict == Verdict::right ? "right" : "wrong"; }

Verdict verdict_named(const std::string& name, const std::string& origin) {
  if (name == "right") return Verdict::right;
  if (name == "wrong") return Verdict::wrong;
  throw Error(cat(origin, ": verdict: expected right or wrong, found ", shown(name)));
}

}  // namespace llmtool
