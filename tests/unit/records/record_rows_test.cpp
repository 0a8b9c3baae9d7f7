// Records as rows, rows as records, and the examples that are made of them.

#include "llmtool/records/record_rows.h"

#include "llmtool/records/terminal_text.h"
#include "record_fixture.h"

namespace llmtool {
namespace {

using Json = nlohmann::ordered_json;
using Kind = ExampleRows::Kind;

class RecordRowsTest : public test::RecordsTest {};

TEST_F(RecordRowsTest, AWholeRecordGoesOutAndComesBack) {
  Record r = record("p", "r");
  r.template_id = {"t", "v1"};
  r.template_text = "{input}";
  r.input = Json::parse(R"({"input": "x", "text": 1})");
  r.model = {"m", "h"};
  r.settings = {{"temperature", 0.5}};
  r.tokens = 3;
  r.sample = 1;
  r.finish_reason = "length";
  r.complete = false;
  r.expected = "e";
  r.verdict = Verdict::wrong;
  r.judged_by = "exact";
  RecordStore store = open();
  store.add(r);
  Record plain = record("p", "r");
  plain.input = "a text";
  store.add(plain);
  const Json first = row_of_record(store.get(1)), second = row_of_record(store.get(2));
  RecordStore copy(place / "copy.db", Mode::create);
  const std::vector<Record> rows = {record_of_row(first, {}, "row 1"), record_of_row(second, {}, "row 2")};
  EXPECT_EQ(copy.import(rows).added, 2);
  EXPECT_EQ(row_of_record(copy.get(1)), first);
  EXPECT_EQ(row_of_record(copy.get(2)), second);
  EXPECT_EQ(open(Mode::write).import(rows).known, 2) << "its own rows are there already";
}

TEST_F(RecordRowsTest, TablesOfAnswersAreRead) {
  const auto read = [](const char* row, AnswerColumns columns = {}) {
    return record_of_row(Json::parse(row), columns, "f: row 1");
  };
  Record r =
      read(R"({"question": "q", "input": "i", "n": 1, "prompt": "p", "text": "r", "ids": [1], "sample": 2,
                      "finish_reason": "stop", "index": 5, "timings": {}})");
  EXPECT_EQ(r.prompt, "p");
  EXPECT_EQ(r.response, "r");
  EXPECT_EQ(r.input, Json::parse(R"({"question": "q", "input": "i", "n": 1})"));
  EXPECT_EQ(r.sample, 2);
  EXPECT_EQ(r.finish_reason, "stop");
  EXPECT_FALSE(r.complete);
  r = read(
      R"({"text": "a column", "response": "r", "prompt": "p", "sample": "1", "verdict": "good", "time": "now"})");
  EXPECT_EQ(r.response, "r");
  EXPECT_EQ(r.input, Json::parse(R"({"text": "a column", "verdict": "good", "time": "now"})"));
  EXPECT_EQ(r.sample, 1);
  EXPECT_FALSE(r.verdict);
  r = read(R"({"text": "a column", "input_choice": 3, "input_n": 4, "prompt": "p", "choice": "yes",
               "probabilities": {"yes": 1}})");
  EXPECT_EQ(r.response, "yes");
  EXPECT_EQ(r.input, Json::parse(R"({"text": "a column", "choice": 3, "input_n": 4})"));
  EXPECT_FALSE(has_answer(Json::parse(R"({"prompt": "", "response": "", "finish_reason": "error"})")));
  EXPECT_TRUE(has_answer(Json::parse(R"({"prompt": "", "choice": "a"})")));
  r = read(R"({"template": "A", "input": {"i": 0}, "prompt": "p", "response": "r", "verdict": "right"})");
  EXPECT_EQ(r.input, Json::parse(R"({"i": 0})"));
  EXPECT_EQ(r.template_id.name, "A");
  EXPECT_EQ(r.verdict, Verdict::right);
  r = read(R"({"q": "p", "a": {"x": 1}, "gold": 7})", {"q", "a", "gold"});
  EXPECT_EQ(r.response, R"({"x":1})");
  EXPECT_EQ(r.expected, "7");
  EXPECT_TRUE(r.input.is_null());
  for (const auto& [row, part] : std::vector<std::pair<const char*, const char*>>{
           {R"({"response": "r"})", "f: row 1: prompt: expected a column"},
           {R"({"prompt": "p"})", "response: expected a column"},
           {R"({"prompt": "p", "text": "r", "sample": -1})", "sample: expected a count"}})
    EXPECT_REFUSED(read(row), part);
  EXPECT_REFUSED(read(R"({"prompt": "p", "text": "r"})", {"", "", "gold"}), "gold: expected a column");
}

TEST_F(RecordRowsTest, WholeRecordsAreChecked) {
  const auto read = [](const char* key, const Json& value) {
    Json row = row_of_record(record("p", "r"));
    row[key] = value;
    return record_of_row(row, {}, "f: row 1");
  };
  EXPECT_EQ(read("verdict", "right").verdict, Verdict::right);
  EXPECT_EQ(read("tokens", "7").tokens, 7) << "a cell of CSV";
  EXPECT_EQ(read("complete", "true").complete, true) << "a cell of CSV";
  EXPECT_EQ(read("complete", false).complete, false);
  const struct {
    const char* key;
    Json value;
    const char* part;
  } rows[] = {{"response", nullptr, "response: expected a column"},
              {"verdict", "good", "expected right or wrong"},
              {"tokens", "many", "tokens: expected a count"},
              {"complete", 1, "complete: expected true or false, found \"1\""},
              {"time", "yesterday", "time: expected a time like"},
              {"time", "2026-05-01 12:00:00Z", "time: expected a time like"}};
  for (const auto& row : rows) EXPECT_REFUSED(read(row.key, row.value), row.part);
}

struct ExampleCase {
  const char *response, *expected;
  std::optional<Verdict> verdict;
  const char *completion, *rejected;  // of the two kinds; null: no row
};

TEST_F(RecordRowsTest, ExamplesAreWhatIsKnownToBeGood) {
  const auto right = Verdict::right, wrong = Verdict::wrong;
  const ExampleCase rows[] = {{"r", nullptr, {}, nullptr, nullptr},
                              {"r", "e", {}, "e", nullptr},
                              {"r", nullptr, right, "r", nullptr},
                              {"r", "e", right, "e", nullptr},
                              {"r", nullptr, wrong, nullptr, nullptr},
                              {"r", "e", wrong, "e", "r"},
                              {" e\n", "e", wrong, " e", nullptr},
                              {" r", "e", wrong, " e", " r"},
                              {" r", "\te", wrong, "\te", " r"},
                              {"r", " ", wrong, nullptr, nullptr},
                              {"", "e", wrong, "e", ""}};
  for (const ExampleCase& row : rows) {
    Record r = record("p", row.response);
    if (row.expected) r.expected = row.expected;
    r.verdict = row.verdict;
    const auto example = ExampleRows(Kind::finetune).row(r), pair = ExampleRows(Kind::preferences).row(r);
    const std::string name = row_of_record(r).dump();
    ASSERT_EQ(example.has_value(), row.completion != nullptr) << name;
    ASSERT_EQ(pair.has_value(), row.rejected != nullptr) << name;
    const auto text = [](const char* t) { return t ? Json(t) : Json(); };
    EXPECT_EQ(example.value_or(Json()),
              example ? Json({{"prompt", "p"}, {"completion", row.completion}}) : Json());
    EXPECT_EQ(pair.value_or(Json()),
              pair ? Json({{"prompt", "p"}, {"chosen", text(row.completion)}, {"rejected", row.rejected}})
                   : Json());
  }
}

TEST_F(RecordRowsTest, ExamplesComeOnceAndContradictionsAreCounted) {
  ExampleRows rows(Kind::finetune);
  const auto give = [&](const char* prompt, const char* expected) {
    Record r = record(prompt, "r");
    r.expected = expected;
    return rows.row(r).has_value();
  };
  EXPECT_TRUE(give("a  b", "c"));
  EXPECT_FALSE(give("a\nb ", " c"));
  EXPECT_TRUE(give("a b", "d"));
  EXPECT_TRUE(give("a b", "e"));
  EXPECT_TRUE(give("a", "b c"));
  EXPECT_FALSE(give("", "c"));
  EXPECT_EQ(rows.counts().examples, 4);
  EXPECT_EQ(rows.counts().duplicates, 1);
  EXPECT_EQ(rows.counts().empty, 1);
  EXPECT_EQ(rows.counts().contradictions, 1);
}

TEST(TerminalText, FitsItsColumns) {
  const struct {
    const char* text;
    int64_t columns;
    const char* line;
  } rows[] = {{"short", 10, "short"},
              {" two\n\nlines\t ", 20, "two lines"},
              {"0123456789", 10, "0123456789"},
              {"0123456789a", 10, "0123456..."},
              {"日本語日本語", 12, "日本語日本語"},
              {"日本語日本語", 11, "日本語日..."},
              {"日本語日本語", 10, "日本語..."},
              {"e\xCC\x81"
               "e\xCC\x81",
               2,
               "e\xCC\x81"
               "e\xCC\x81"},
              {"abcd", 2, ".."},
              {"abcd", 0, ""},
              {"", 5, ""}};
  for (const auto& row : rows) {
    EXPECT_EQ(one_line(row.text, row.columns), row.line) << row.text << " in " << row.columns;
    EXPECT_LE(display_width(one_line(row.text, row.columns)), row.columns);
  }
}

TEST(TerminalText, CannotSteerTheTerminal) {
  EXPECT_EQ(printable("a\x1B[31mb\r\nc\td\x7F"), "a\xEF\xBF\xBD[31mb\nc\td\xEF\xBF\xBD");
  EXPECT_EQ(printable("\xC2\x9B"
                      "1m\xE2\x80\xAE"),
            "\xEF\xBF\xBD"
            "1m\xEF\xBF\xBD");
  EXPECT_EQ(printable("\r"), "\xEF\xBF\xBD");
  EXPECT_EQ(printable("\xFF"), "\xEF\xBF\xBD");
}

}  // namespace
}  // namespace llmtool
