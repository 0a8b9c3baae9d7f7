#include "llmtool/io/json.h"

#include <gtest/gtest.h>

#include <limits>

#include "llmtool/core/error.h"
#include "support.h"

namespace llmtool {
namespace {

/// What the parser says; "" when it accepts.
std::string complaint(const std::string& text) {
  try {
    parse_json(text, "x.json");
    return "";
  } catch (const Error& e) {
    return e.what();
  }
}

std::string nested(int levels) { return std::string(levels, '[') + std::string(levels, ']'); }

#define EXPECT_SAYS(message, part) EXPECT_NE(std::string(message).find(part), std::string::npos) << message

/// The message of the Error that `call` throws.
template <class Call>
std::string message_of(Call&& call) {
  try {
    call();
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing thrown";
}

TEST(ParseJson, ReadsWhatIsRight) {
  const auto json = parse_json(R"({"a": [1, 2.5, "\u00e9"], "b": {"a": null}})", "x.json");
  EXPECT_EQ(json["a"][2], "é");
  EXPECT_TRUE(json["b"]["a"].is_null());
}

TEST(ParseJson, NamesOriginLineAndColumn) {
  const std::string said = complaint("{\n  \"a\": ]\n}");
  EXPECT_SAYS(said, "x.json: ");
  EXPECT_SAYS(said, "line 2, column 8");
}

TEST(ParseJson, RefusesWhatIsNoJson) {
  for (const char* text : {"", " ", "{", "[1,]", "{\"a\":1,}", "{'a':1}", "nul", "1 2", "[1] x",
                           "\"\\ud800\"", "\"\x01\"", "NaN", "01", "{\"a\"}", "// x\n1"}) {
    EXPECT_NE(complaint(text), "") << text;
  }
}

TEST(ParseJson, RefusesInvalidUtf8) {
  for (const char* text : {"\"\xff\"", "\"\xc3\"", "\"\xed\xa0\x80\"", "\"\xf5\x80\x80\x80\"", "\"\xc0\xaf\"",
                           "{\"\xff\": 1}"}) {
    EXPECT_SAYS(complaint(text), "x.json: ");
  }
}

TEST(ParseJson, RefusesDeepNestingWithoutDeepRecursion) {
  EXPECT_EQ(complaint(nested(64)), "");
  EXPECT_SAYS(complaint(nested(65)), "64 levels");
  EXPECT_SAYS(complaint(std::string(5'000'000, '[')), "64 levels");
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  EXPECT_SAYS(complaint(objects), "64 levels");
}

TEST(ParseJson, RefusesAKeyThatStandsTwice) {
  EXPECT_SAYS(complaint(R"({"a": 1, "b": 2, "a": 3})"), "\"a\"");
  EXPECT_SAYS(complaint(R"({"x": [{"a": 1, "\u0061": 3}]})"), "twice");
  EXPECT_EQ(complaint(R"([{"a": 1}, {"a": {"a": 1}}])"), "");
}

TEST(ParseJson, RefusesNumbersOutOfRange) {
  EXPECT_NE(complaint("1e999"), "");
  EXPECT_NE(complaint("[-1e999]"), "");
  EXPECT_EQ(complaint("18446744073709551615"), "");
}

TEST(ReadJson, NamesTheFile) {
  test::TempFolder folder;
  test::write_text(folder / "bad.json", "{");
  EXPECT_SAYS(message_of([&] { read_json(folder / "bad.json"); }), "bad.json");
  EXPECT_SAYS(message_of([&] { read_json(folder / "none.json"); }), "none.json");
  EXPECT_SAYS(message_of([&] { read_json(folder.path()); }), folder.path().string());
  test::write_text(folder / "long.json", "[" + std::string(1000, ' ') + "]");
  EXPECT_THROW(read_json(folder / "long.json", 100), Error);
}

TEST(JsonObject, IntegersNeverWrapOrRound) {
  const auto json =
      parse_json(R"({"big": 18446744073709551615, "neg": -1, "half": 0.5, "one": 1.0, "far": 1e300,
                                   "text": "1", "null": null, "top": 9223372036854775807, "bool": true})",
                 "f.json");
  const JsonObject object(json, "f.json");
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(object.integer("top", 0, kMax), kMax);
  EXPECT_EQ(object.integer("one", 0, 10), 1);
  EXPECT_EQ(object.integer("none", 0, 10, 7), 7);
  EXPECT_EQ(object.integer("null", 0, 10, 7), 7);
  for (const char* key : {"big", "neg", "half", "far", "text", "null", "none", "bool"}) {
    const std::string said = message_of([&] { object.integer(key, 0, kMax); });
    EXPECT_SAYS(said, std::string("f.json: ") + key + ": expected an integer from 0 to ");
  }
  EXPECT_SAYS(message_of([&] { object.integer("text", 0, 9); }), "found \"1\"");
  EXPECT_SAYS(message_of([&] { object.integer("none", 0, 9); }), "found nothing");
  EXPECT_THROW(object.integer("big", -5, -1), Error);
  EXPECT_EQ(object.integer("neg", -5, -1), -1);
}

TEST(JsonObject, OtherTypesAreChecked) {
  const auto json = parse_json(R"({"s": "x", "n": 1.5, "b": true, "l": [1, 2], "bad": [1, "2"]})", "f.json");
  const JsonObject object(json, "f.json");
  EXPECT_EQ(object.string("s"), "x");
  EXPECT_EQ(object.string("none", "y"), "y");
  EXPECT_EQ(object.number("n"), 1.5);
  EXPECT_TRUE(object.boolean("b", false));
  EXPECT_EQ(object.integers("l", 0, 9), (std::vector<int64_t>{1, 2}));
  EXPECT_TRUE(object.integers("none", 0, 9).empty());
  EXPECT_THROW(object.string("n"), Error);
  EXPECT_THROW(object.number("s"), Error);
  EXPECT_THROW(object.boolean("s", false), Error);
  EXPECT_THROW(object.integers("bad", 0, 9), Error);
  EXPECT_THROW(object.integers("l", 0, 1), Error);
  EXPECT_SAYS(message_of([&] { JsonObject(json["l"], "row 3"); }), "row 3: expected an object, found [1,2]");
}

TEST(JsonObject, ALongValueIsShownInPartAndInWholeCharacters) {
  std::string text = "x";
  for (int i = 0; i < 100; ++i) text += "é";
  const nlohmann::json json = {{"a", text}};
  const std::string said = message_of([&] { JsonObject(json, "f").integer("a", 0, 1); });
  EXPECT_LT(said.size(), 130u);
  EXPECT_NO_THROW(nlohmann::json(said).dump()) << "cut inside a character";
}

}  // namespace
}  // namespace llmtool
