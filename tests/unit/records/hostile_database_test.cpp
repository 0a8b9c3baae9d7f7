// A database that is made to do harm gives an Error or records, never anything else.

#include "llmtool/core/rng.h"
#include "llmtool/records/comparison.h"
#include "llmtool/records/judge.h"
#include "llmtool/records/record_rows.h"
#include "llmtool/records/terminal_text.h"
#include "record_fixture.h"
#include "text/unicode.h"

namespace llmtool {
namespace {

class HostileDatabase : public test::RecordsTest {
 protected:
  void SetUp() override {
    RecordStore store = open();
    for (int i = 0; i < 40; ++i) {
      Record r = record("prompt " + std::to_string(i), "answer");
      r.template_id = {"t", "v"};
      r.template_text = "{a}";
      r.input = {{"a", i}};
      r.settings = {{"temperature", 1}};
      if (i % 3 == 0) r.verdict = Verdict::right;
      r.expected = "answer";
      store.add(r);
    }
  }

  /// Everything that is read anywhere. True where nothing was refused.
  bool reads() const {
    try {
      RecordStore store = open(Mode::write);
      const Judge exact({}), json({JudgeRule::Kind::json_equal, "", false}),
          regex({JudgeRule::Kind::regex, "a.*", false});
      ExampleRows examples(ExampleRows::Kind::finetune);
      store.for_each({}, [&](Record&& r) {
        const std::string row = row_of_record(r).dump();  // throws what is no Error on text that is no UTF-8
        test::refusal([&] { record_of_row(nlohmann::ordered_json::parse(row), {}, "row"); });
        examples.row(r);
        one_line(r.response, 20);
        for (const Judge* judge : {&exact, &json, &regex}) judge->judge(r);
      });
      store.templates();
      store.models();
      store.tallies({});
      compare(store, {}, {});
      store.import(all(store));
      store.add(record("p", "r"));
      return true;
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find(file().string()), std::string::npos) << e.what();
      return false;
    }
  }
};

TEST_F(HostileDatabase, AValueOfAnotherTypeIsTextOrRefused) {
  ASSERT_TRUE(reads());
  struct {
    const char* sql;
    bool readable;
  } const rows[] = {{"UPDATE records SET response = x'ff00fe'", true},
                    {"UPDATE records SET prompt = 1e300, response = 7", true},
                    {"UPDATE records SET response = CAST(x'c328e2' AS TEXT)", true},
                    {"UPDATE templates SET text = x'80'", true},
                    {"UPDATE records SET template_id = 99", true},
                    {"UPDATE records SET settings_hash = 'none'", true},
                    {"UPDATE records SET time = x'00', content = 5, finish_reason = zeroblob(100)", true},
                    {"UPDATE records SET response = zeroblob(100000) WHERE id = 1", true},
                    {"UPDATE records SET input = '{'", false},
                    {"UPDATE records SET input = replace(hex(zeroblob(5000)), '00', '[')", false},
                    {"UPDATE settings SET json = x'ff'", false},
                    {"UPDATE records SET tokens = 'many'", false},
                    {"UPDATE records SET sample = 0.5", false},
                    {"PRAGMA ignore_check_constraints = 1; UPDATE records SET complete = 'no'", false},
                    {"PRAGMA user_version = 1", false},  // tables that are newer than they say
                    {"PRAGMA ignore_check_constraints = 1; UPDATE records SET verdict = 'maybe'", false}};
  const std::string whole = test::read_text(file());
  for (const auto& row : rows) {
    test::write_text(file(), whole);
    sql(row.sql);
    EXPECT_EQ(reads(), row.readable) << row.sql;
  }
}

TEST_F(HostileDatabase, TablesThatAreOthersAreRefused) {
  const std::string whole = test::read_text(file());
  for (const char* change :
       {"DROP TABLE records", "DROP TABLE templates", "ALTER TABLE records DROP COLUMN expected",
        "DROP TABLE records; CREATE VIEW records AS SELECT 1 AS id",
        "DROP TABLE templates; CREATE VIEW templates AS SELECT 1 AS id, 't' AS name, 'v' AS version, 'x' AS "
        "text"}) {
    test::write_text(file(), whole);
    sql(change);
    EXPECT_FALSE(reads()) << change;
  }
  test::write_text(file(), whole);
  sql("DROP TABLE templates; CREATE VIRTUAL TABLE templates USING fts5(id, name, version, text)");
  reads();
  test::write_text(file(), whole);
  sql("CREATE TRIGGER t AFTER INSERT ON records BEGIN DELETE FROM records; END");
  EXPECT_TRUE(reads());
  EXPECT_GE(all(open(Mode::read)).size(), 40u) << "no trigger runs";
}

TEST_F(HostileDatabase, FlippedBitsDoNoHarm) {
  const std::string whole = test::read_text(file());
  Rng rng(11);
  int refused = 0;
  for (int i = 0; i < 150; ++i) {
    std::string changed = whole;
    for (uint64_t flips = 1 + rng.below(40); flips > 0; --flips)
      changed[rng.below(changed.size())] ^= static_cast<char>(1 << rng.below(8));
    test::write_text(file(), changed);
    refused += !reads();
    std::filesystem::remove(file().string() + "-journal");
  }
  EXPECT_GT(refused, 20);
  for (size_t n = 0; n < whole.size(); n += 509) {
    test::write_text(file(), whole.substr(0, n));
    reads();
  }
}

}  // namespace
}  // namespace llmtool
