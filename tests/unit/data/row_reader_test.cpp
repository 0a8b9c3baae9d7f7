// Rows of JSON, JSONL, CSV and TSV, and what is wrong with some of them.

#include "data/row_reader.h"

#include <gtest/gtest.h>

#include <cstring>

#include "llmtool/core/error.h"

namespace llmtool {
namespace {

using Json = nlohmann::ordered_json;

/// A few bytes at a time, so that what is cut apart must be put together again.
class Bytes : public ByteSource {
 public:
  explicit Bytes(std::string text) : text_(std::move(text)) {}
  size_t read(char* data, size_t size) override {
    const size_t n = std::min({size, text_.size() - at_, size_t{3}});
    std::memcpy(data, text_.data() + at_, n);
    at_ += n;
    return n;
  }

 private:
  std::string text_;
  size_t at_ = 0;
};

/// The rows as one JSON list.
Json rows_of(const std::string& name, const std::string& text, const RowFormat& format = {}) {
  Bytes bytes(text);
  Json rows = Json::array();
  read_rows(bytes, name, format, [&](RawRow&& row) {
    rows.push_back(parse_row(row, name + ": row " + std::to_string(row.number)));
  });
  return rows;
}

std::string refusal(const std::string& name, const std::string& text, const RowFormat& format = {}) {
  try {
    rows_of(name, text, format);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(RowReader, ReadsJsonInEveryForm) {
  const Json expected = Json::parse(R"([{"a": "x,]}\"", "b": [1, {"c": 2}]}, {"a": ""}])");
  const std::string first = expected[0].dump(), second = expected[1].dump();
  EXPECT_EQ(rows_of("f.jsonl", first + "\r\n\n" + second), expected);
  EXPECT_EQ(rows_of("f.json", " [ " + first + " ,\n" + second + " ] \n"), expected);
  EXPECT_EQ(rows_of("f.json", "\xEF\xBB\xBF" + expected.dump()), expected);
  EXPECT_EQ(rows_of("f.json", R"({"version": 1, "data": )" + expected.dump() + "}"), expected);
  EXPECT_EQ(rows_of("f.json", first + "\n" + second), expected) << "rows one behind the other";
  EXPECT_EQ(rows_of("f.json.gz", "[]"), Json::array());
  const std::string chat = R"({"messages": [{"role": "user", "content": "x"}]})";
  EXPECT_EQ(rows_of("f.json", chat), Json::array({Json::parse(chat)})) << "a row, not a list of rows";
}

TEST(RowReader, RefusesBrokenJson) {
  EXPECT_NE(refusal("f.jsonl", "{\"a\": 1}\n{\"a\": }").find("f.jsonl: row 2: "), std::string::npos);
  EXPECT_NE(refusal("f.json", "[{\"a\": 1}, {\"a\": 1").find("row 2"), std::string::npos);
  EXPECT_NE(refusal("f.json", "[{} {}]").find("behind row 1: expected a comma"), std::string::npos);
  EXPECT_NE(refusal("f.json", "[{}] x").find("expected nothing behind the list"), std::string::npos);
  EXPECT_NE(refusal("f.json", "[1]").find("row 1: expected an object, found 1"), std::string::npos);
  EXPECT_NE(refusal("f.json", "3").find("expected a list of rows"), std::string::npos);
  EXPECT_NE(refusal("f.json", "").find("expected a list of rows"), std::string::npos);
  EXPECT_NE(refusal("f.parquet", "PAR1").find("expected a name that ends in"), std::string::npos);
}

TEST(RowReader, ReadsTablesAsTheStandardSays) {
  const Json expected = Json::parse(R"([{"q": "a,b", "r": "say \"no\"\r\n2"}, {"q": "", "r": "c \"d\""}])");
  const std::string text = "\xEF\xBB\xBFq,r\r\n\"a,b\",\"say \"\"no\"\"\r\n2\"\r\n\r\n,c \"d\"";
  EXPECT_EQ(rows_of("f.csv", text), expected);
  EXPECT_EQ(rows_of("f.csv", text + "\r\n"), expected);
  EXPECT_EQ(rows_of("f.tsv", "q\tr\n1,2\t3\n"), Json::parse(R"([{"q": "1,2", "r": "3"}])"));
  EXPECT_EQ(rows_of("f.tsv", "good\t1\n", {"auto", {"text", "label"}}),
            Json::parse(R"([{"text": "good", "label": "1"}])"));
  EXPECT_EQ(rows_of("-", "a\n1", {"csv", {}}), Json::parse(R"([{"a": "1"}])"));
}

TEST(RowReader, RefusesBrokenTables) {
  EXPECT_EQ(refusal("f.csv", "a,b\n1\n"), "f.csv: row 2: expected 2 cells, found 1");
  EXPECT_EQ(refusal("f.csv", "a,b\n1,2\n\"3,4\n5"), "f.csv: row 3: a cell's quote is never closed");
  EXPECT_NE(refusal("f.csv", "a\n\"1\"2\n").find("row 2, cell 1: text behind the closing quote"),
            std::string::npos);
  EXPECT_EQ(refusal("f.csv", "a\n\xFF\n"), "f.csv: row 2: a byte that is not UTF-8");
  EXPECT_NE(refusal("f.csv", "a,a\n").find("two columns \"a\""), std::string::npos);
  EXPECT_NE(refusal("f.csv", "").find("expected a heading"), std::string::npos);
}

}  // namespace
}  // namespace llmtool
