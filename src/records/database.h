#pragma once
// SQLite's database, statement and transaction; every failure is an Error that names the file.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

struct sqlite3;
struct sqlite3_stmt;

namespace llmtool {

class Database {
 public:
  /// The file may be hostile: no trigger or view of its schema is run.
  Database(const std::filesystem::path& path, bool creates);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  void run(const std::string& sql);
  int64_t integer(const std::string& sql);  // the first column of the first row
  int64_t last_id() const;
  [[noreturn]] void fail() const;  // throws Error with what SQLite says was wrong
  const std::string& name() const { return name_; }
  sqlite3* handle() const { return handle_; }

 private:
  std::string name_;
  sqlite3* handle_ = nullptr;
};

class Statement {
 public:
  Statement(Database& db, const std::string& sql);
  ~Statement();
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  /// Gives the next parameter its value; NULL where there is none.
  Statement& bind(std::string_view text);
  Statement& bind(int64_t value);
  Statement& bind(const std::optional<std::string>& text);
  Statement& bind(const std::optional<int64_t>& value);
  bool step();   // to the next row; false behind the last
  void again();  // without parameters, from the start

  bool null(int column) const;
  int64_t integer(int column) const;   // throws Error where the column holds no integer
  std::string text(int column) const;  // well-formed UTF-8 whatever the column holds; "" of NULL

 private:
  void check(int code) const;
  Database& db_;
  sqlite3_stmt* handle_ = nullptr;
  int bound_ = 0;
};

/// Holds the right to write from its start, so that what was read in it stays true; undone without commit().
class Transaction {
 public:
  explicit Transaction(Database& db);
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  void commit();

 private:
  Database& db_;
  bool committed_ = false;
};

}  // namespace llmtool
