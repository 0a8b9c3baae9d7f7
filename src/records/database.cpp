#include "records/database.h"

#include <sqlite3.h>

#include "llmtool/core/error.h"
#include "llmtool/io/json.h"
#include "text/unicode.h"

namespace llmtool {

namespace {
constexpr int kPatience = 30'000;         // milliseconds to wait for another process
constexpr int kLargestValue = 256 << 20;  // bytes
constexpr const char* kDamaged = "the database is damaged; restore a copy, or try `sqlite3 FILE .recover`";

/// What SQLite's code means for the user.
std::string meaning(int code, const char* said) {
  switch (code & 0xFF) {
    case SQLITE_NOTADB:
      return "expected a SQLite database, found another kind of file";
    case SQLITE_CORRUPT:
      return cat(kDamaged, " (", said, ")");
    case SQLITE_READONLY:
    case SQLITE_PERM:
      return "cannot be written: the file or its folder is read-only";
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return cat("another process has held it for ", kPatience / 1000, " seconds; try again");
    case SQLITE_FULL:
      return "cannot be written: the disk is full";
    case SQLITE_CANTOPEN:
      return cat("cannot be opened (", said, ")");
    case SQLITE_TOOBIG:
      return cat("a value of more than ", kLargestValue >> 20, " MB");
    case SQLITE_NOMEM:
      throw std::bad_alloc();
    default:
      return said;
  }
}
}  // namespace

Database::Database(const std::filesystem::path& path, bool creates) : name_(path.string()) {
  // Also to read: what a process that was killed left half-written is undone by whoever comes next. SQLite
  // itself opens a file read-only that cannot be written.
  const int flags = SQLITE_OPEN_READWRITE | (creates ? SQLITE_OPEN_CREATE : 0) | SQLITE_OPEN_NOMUTEX;
  // An absolute path is never read as a URI or as a name that means memory.
  const std::string place = std::filesystem::absolute(path).string();
  const int code = sqlite3_open_v2(place.c_str(), &handle_, flags, nullptr);
  if (code != SQLITE_OK) {
    const std::string what = meaning(code, sqlite3_errstr(code));
    sqlite3_close_v2(handle_);
    throw Error(cat(name_, ": ", what));
  }
  sqlite3_extended_result_codes(handle_, 1);
  sqlite3_busy_timeout(handle_, kPatience);
  sqlite3_limit(handle_, SQLITE_LIMIT_LENGTH, kLargestValue);
  sqlite3_db_config(handle_, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(handle_, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  sqlite3_db_config(handle_, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, nullptr);
  sqlite3_db_config(handle_, SQLITE_DBCONFIG_ENABLE_VIEW, 0, nullptr);
  try {
    run("PRAGMA cell_size_check = ON");
    // A commit is on the disk, its folder too, when it returns. The journal is the one that leaves nothing
    // beside the file.
    run("PRAGMA synchronous = EXTRA");
  } catch (...) {
    sqlite3_close_v2(handle_);
    throw;
  }
}

Database::~Database() { sqlite3_close_v2(handle_); }

void Database::fail() const {
  throw Error(cat(name_, ": ", meaning(sqlite3_errcode(handle_), sqlite3_errmsg(handle_))));
}

void Database::run(const std::string& sql) {
  if (sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) fail();
}

int64_t Database::integer(const std::string& sql) {
  Statement statement(*this, sql);
  return statement.step() ? statement.integer(0) : 0;
}

int64_t Database::last_id() const { return sqlite3_last_insert_rowid(handle_); }

Statement::Statement(Database& db, const std::string& sql) : db_(db) {
  check(sqlite3_prepare_v2(db.handle(), sql.c_str(), static_cast<int>(sql.size()), &handle_, nullptr));
}

Statement::~Statement() { sqlite3_finalize(handle_); }

void Statement::check(int code) const {
  if (code != SQLITE_OK) db_.fail();
}

Statement& Statement::bind(std::string_view text) {
  std::string spare;
  const std::string_view good = unicode::well_formed(text, spare);
  // A null pointer would be NULL.
  check(sqlite3_bind_text64(handle_, ++bound_, good.empty() ? "" : good.data(), good.size(), SQLITE_TRANSIENT,
                            SQLITE_UTF8));
  return *this;
}

Statement& Statement::bind(int64_t value) {
  check(sqlite3_bind_int64(handle_, ++bound_, value));
  return *this;
}

Statement& Statement::bind(const std::optional<std::string>& text) {
  if (text) return bind(std::string_view(*text));
  check(sqlite3_bind_null(handle_, ++bound_));
  return *this;
}

Statement& Statement::bind(const std::optional<int64_t>& value) {
  if (value) return bind(*value);
  check(sqlite3_bind_null(handle_, ++bound_));
  return *this;
}

bool Statement::step() {
  const int code = sqlite3_step(handle_);
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) db_.fail();
  return false;
}

void Statement::again() {
  sqlite3_reset(handle_);
  sqlite3_clear_bindings(handle_);
  bound_ = 0;
}

bool Statement::null(int column) const { return sqlite3_column_type(handle_, column) == SQLITE_NULL; }

int64_t Statement::integer(int column) const {
  if (sqlite3_column_type(handle_, column) != SQLITE_INTEGER)
    throw Error(cat(db_.name(), ": ", sqlite3_column_name(handle_, column), ": expected an integer, found ",
                    shown(text(column)), "; ", kDamaged));
  return sqlite3_column_int64(handle_, column);
}

std::string Statement::text(int column) const {
  const void* const bytes = sqlite3_column_type(handle_, column) == SQLITE_BLOB
                                ? sqlite3_column_blob(handle_, column)
                                : sqlite3_column_text(handle_, column);
  if (!bytes) return "";
  const auto size = static_cast<size_t>(sqlite3_column_bytes(handle_, column));
  std::string spare;
  return std::string(unicode::well_formed({static_cast<const char*>(bytes), size}, spare));
}

Transaction::Transaction(Database& db) : db_(db) { db_.run("BEGIN IMMEDIATE"); }

Transaction::~Transaction() {
  if (!committed_) sqlite3_exec(db_.handle(), "ROLLBACK", nullptr, nullptr, nullptr);
}

void Transaction::commit() {
  db_.run("COMMIT");
  committed_ = true;
}

}  // namespace llmtool
