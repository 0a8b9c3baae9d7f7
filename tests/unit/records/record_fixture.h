#pragma once
// A database of records in a folder of its own.

#include <gtest/gtest.h>
#include <sqlite3.h>

#include "llmtool/core/error.h"
#include "llmtool/records/record_store.h"
#include "support.h"

namespace llmtool::test {

class RecordsTest : public ::testing::Test {
 protected:
  using Mode = RecordStore::Mode;

  std::filesystem::path file() const { return place / "records.db"; }
  RecordStore open(Mode mode = Mode::create) const { return RecordStore(file(), mode); }

  static Record record(const std::string& prompt, const std::string& response) {
    Record r;
    r.prompt = prompt;
    r.response = response;
    return r;
  }

  static std::vector<Record> all(const RecordStore& store, const RecordFilter& filter = {}) {
    std::vector<Record> records;
    store.for_each(filter, [&](Record&& r) { records.push_back(std::move(r)); });
    return records;
  }

  /// Runs SQL on the file behind the store's back.
  void sql(const std::string& text) const {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open(file().c_str(), &db), SQLITE_OK);
    char* problem = nullptr;
    EXPECT_EQ(sqlite3_exec(db, text.c_str(), nullptr, nullptr, &problem), SQLITE_OK)
        << (problem ? problem : "");
    sqlite3_free(problem);
    sqlite3_close(db);
  }

  TempFolder place;
};

/// What the call throws, "" where it throws no Error.
template <class Call>
std::string refusal(Call call) {
  try {
    call();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

#define EXPECT_REFUSED(call, part)                                       \
  do {                                                                   \
    const std::string said = llmtool::test::refusal([&] { call; });      \
    EXPECT_NE(said.find(part), std::string::npos) << #call ": " << said; \
  } while (false)

}  // namespace llmtool::test
