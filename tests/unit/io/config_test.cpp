#include "llmtool/io/config.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "llmtool/core/error.h"
#include "llmtool/io/json.h"

namespace llmtool {
namespace {

struct Sample {
  int64_t steps = 10;
  std::optional<int64_t> bos;
  double rate = 0.5;
  std::optional<double> scale;
  bool fast = true;
  std::string name = "n", kind = "cosine";
  std::vector<std::string> words;
  std::vector<int64_t> ids;
  struct Source {
    std::string path;
    double weight = 0;
  };
  std::vector<Source> sources;
  nlohmann::json extra = nlohmann::json::object();

  void visit(ConfigVisitor& v) {
    v.section("training", "how", [&](ConfigVisitor& s) {
      s.integer("max_steps", steps, {1, 1000}, "steps");
      s.number("learning_rate", rate, {0, 1}, "rate");
      s.boolean("fast", fast, "speed");
      s.choice("kind", kind, {"cosine", "linear"}, "schedule");
      s.section("inner", "deep", [&](ConfigVisitor& t) { t.string("name", name, "a name"); });
    });
    v.integer("bos", bos, {0}, "first id");
    v.number("scale", scale, {0}, "or none");
    v.strings("words", words, "texts");
    v.integers("ids", ids, {0, 9}, "digits");
    v.objects(
        "sources", sources.size(), "files", [&](size_t n) { sources.resize(n); },
        [&](ConfigVisitor& s, size_t i) {
          s.string("path", sources[i].path, "file");
          s.number("weight", sources[i].weight, {0}, "share");
        });
    v.raw("extra", extra, "kept");
  }
};

ConfigKeys keys_of(Sample& s) {
  return [&s](ConfigVisitor& v) { s.visit(v); };
}

Sample read(const std::string& text) {
  Sample s;
  read_config(parse_json(text, "test"), keys_of(s));
  return s;
}

/// The message of the UsageError that reading `text` gives.
std::string complaint(const std::string& text) {
  try {
    read(text);
    return "nothing thrown";
  } catch (const UsageError& e) {
    return e.what();
  }
}

TEST(ReadConfig, AbsentKeysKeepTheirDefaults) {
  const Sample s = read("{}");
  EXPECT_EQ(s.steps, 10);
  EXPECT_EQ(s.name, "n");
  EXPECT_FALSE(s.bos);
}

TEST(ReadConfig, ReadsEveryKind) {
  const Sample s =
      read(R"({"training": {"max_steps": 3.0, "learning_rate": 1, "fast": false, "kind": "linear",
      "inner": {"name": "x"}}, "bos": 2, "scale": 0.5, "words": ["a", ""], "ids": [0, 9],
      "sources": [{"path": "p"}, {"path": "q", "weight": 2}], "extra": {"any": [1]}})");
  EXPECT_EQ(s.steps, 3);
  EXPECT_EQ(s.rate, 1);
  EXPECT_FALSE(s.fast);
  EXPECT_EQ(s.kind, "linear");
  EXPECT_EQ(s.name, "x");
  EXPECT_EQ(s.bos, 2);
  EXPECT_EQ(s.words, (std::vector<std::string>{"a", ""}));
  EXPECT_EQ(s.ids, (std::vector<int64_t>{0, 9}));
  ASSERT_EQ(s.sources.size(), 2u);
  EXPECT_EQ(s.sources[1].weight, 2);
  EXPECT_EQ(s.extra["any"][0], 1);
  EXPECT_FALSE(read(R"({"bos": null})").bos);
}

TEST(ReadConfig, RefusalsNameThePathWhatWasExpectedAndWhatWasFound) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"training": {"max_step": 1}})", "training.max_step: unknown key, did you mean max_steps?"},
      {R"({"trainin": {}})", "trainin: unknown key, did you mean training?"},
      {R"({"zzz": 1})", "zzz: unknown key"},
      {R"({"training": {"inner": {"nam": "x"}}})", "training.inner.nam: unknown key, did you mean name?"},
      {R"({"training": {"max_steps": "ten"}})",
       "training.max_steps: expected an integer from 1 to 1000, found \"ten\""},
      {R"({"training": {"max_steps": 0}})",
       "training.max_steps: expected an integer from 1 to 1000, found 0"},
      {R"({"training": {"max_steps": 1.5}})",
       "training.max_steps: expected an integer from 1 to 1000, found 1.5"},
      {R"({"training": {"max_steps": null}})", "training.max_steps: expected an integer"},
      {R"({"training": {"max_steps": true}})", "training.max_steps: expected an integer"},
      {R"({"training": {"learning_rate": 2}})",
       "training.learning_rate: expected a number from 0 to 1, found 2"},
      {R"({"training": {"learning_rate": "0.1"}})", "training.learning_rate: expected a number"},
      {R"({"training": {"fast": 1}})", "training.fast: expected true or false, found 1"},
      {R"({"training": {"kind": "cosin"}})",
       "training.kind: expected one of cosine, linear; found \"cosin\", did you mean cosine?"},
      {R"({"training": []})", "training: expected an object, found []"},
      {R"([])", "config: expected an object, found []"},
      {R"({"bos": -1})", "bos: expected an integer >= 0, found -1"},
      {R"({"words": "a"})", "words: expected a list of strings"},
      {R"({"words": [1]})", "words"},
      {R"({"ids": [10]})", "ids"},
      {R"({"sources": [{"path": "p"}, {"pth": "q"}]})", "sources[1].pth: unknown key, did you mean path?"},
      {R"({"sources": [3]})", "sources[0]: expected an object, found 3"},
      {R"({"extra": 1})", "extra: expected an object, found 1"}};
  for (const auto& [text, expected] : cases) {
    EXPECT_TRUE(complaint(text).starts_with(expected)) << text << " gives: " << complaint(text);
  }
}

TEST(ReadConfig, LargeIntegersAreRefusedRatherThanRounded) {
  EXPECT_EQ(read(R"({"bos": 9007199254740992})").bos, int64_t{1} << 53);
  for (const char* number : {"9007199254740993", "18446744073709551615", "1e300", "-9223372036854775808"}) {
    EXPECT_TRUE(complaint(std::string(R"({"bos": )") + number + "}").starts_with("bos: expected an integer"))
        << number;
  }
}

TEST(WriteConfig, WhatIsWrittenIsReadAgain) {
  Sample s = read(R"({"training": {"max_steps": 7, "learning_rate": 0.1}, "bos": 4, "words": ["é\n"],
                      "sources": [{"path": "p", "weight": 0.25}], "extra": {"k": 1}})");
  const nlohmann::ordered_json written = write_config(keys_of(s));
  Sample again;
  read_config(parse_json(written.dump(), "again"), keys_of(again));
  EXPECT_EQ(write_config(keys_of(again)), written);
  EXPECT_EQ(written.begin().key(), "training");  // in the order of the keys
  EXPECT_TRUE(written["scale"].is_null());
}

TEST(ConfigSchema, DescribesEveryKey) {
  Sample s;
  const nlohmann::ordered_json schema = config_schema(keys_of(s), "sample");
  EXPECT_EQ(schema["title"], "sample");
  EXPECT_EQ(schema["additionalProperties"], false);
  const auto& training = schema["properties"]["training"];
  EXPECT_EQ(training["additionalProperties"], false);
  EXPECT_EQ(
      training["properties"]["max_steps"],
      nlohmann::ordered_json::parse(
          R"({"type": "integer", "minimum": 1, "maximum": 1000, "default": 10, "description": "steps"})"));
  EXPECT_EQ(training["properties"]["kind"]["enum"], nlohmann::ordered_json::parse(R"(["cosine", "linear"])"));
  EXPECT_EQ(schema["properties"]["bos"]["type"], nlohmann::ordered_json::parse(R"(["integer", "null"])"));
  EXPECT_EQ(schema["properties"]["sources"]["items"]["properties"]["path"]["type"], "string");
  EXPECT_TRUE(s.sources.empty()) << "describing must not change the values";
}

TEST(ConfigSchema, DefaultsSatisfyTheirOwnReader) {
  Sample s;
  EXPECT_NO_THROW(read_config(parse_json(write_config(keys_of(s)).dump(), "defaults"), keys_of(s)));
}

TEST(ConfigHelp, NamesTheKeysOfASectionWithTheirPaths) {
  Sample s;
  const std::string overview = config_help(keys_of(s)), section = config_help(keys_of(s), "training");
  for (const char* part : {"bos", "sources[].weight", "training", "how"}) {
    EXPECT_NE(overview.find(part), std::string::npos) << part;
  }
  EXPECT_EQ(overview.find("training.max_steps"), std::string::npos) << "a screen, not all of it";
  for (const char* part : {"training.max_steps", "integer, 10", "training.inner.name", "cosine|linear"}) {
    EXPECT_NE(section.find(part), std::string::npos) << part;
  }
  EXPECT_EQ(section.find("bos"), std::string::npos);
  EXPECT_TRUE(s.sources.empty()) << "describing must not change the values";
}

TEST(ConfigHelp, RefusesASectionThatIsNone) {
  Sample s;
  EXPECT_THROW(config_help(keys_of(s), "trainin"), UsageError);
  EXPECT_THROW(config_help(keys_of(s), "bos"), UsageError);
  const ConfigKeys flat = [&s](ConfigVisitor& v) { v.string("name", s.name, "a name"); };
  EXPECT_NE(config_help(flat).find("name"), std::string::npos);
  EXPECT_THROW(config_help(flat, "name"), UsageError);
}

nlohmann::json set(const std::string& start, const std::string& setting) {
  nlohmann::json json = nlohmann::json::parse(start);
  apply_setting(json, setting);
  return json;
}

TEST(ApplySetting, ReadsJsonAndTakesTheRestAsText) {
  EXPECT_EQ(set("{}", "a.b=3e-4")["a"]["b"], 3e-4);
  EXPECT_EQ(set("{}", "a=true")["a"], true);
  EXPECT_EQ(set("{}", "a=[1, 2]")["a"][1], 2);
  EXPECT_EQ(set("{}", "a=plain words")["a"], "plain words");
  EXPECT_EQ(set("{}", "a=\"1\"")["a"], "1");
  EXPECT_EQ(set("{}", "a=")["a"], "");
  EXPECT_EQ(set("{}", "a=b=c")["a"], "b=c");
  EXPECT_EQ(set(R"({"a": {"b": 1, "c": 2}})", "a.b=5"), nlohmann::json::parse(R"({"a": {"b": 5, "c": 2}})"));
  EXPECT_EQ(set(R"({"a": null})", "a.b=5")["a"]["b"], 5);
}

TEST(ApplySetting, RefusesWhatNamesNoKey) {
  for (const char* setting : {"", "a", "=1", "a.=1", ".a=1", "a..b=1"})
    EXPECT_THROW(set("{}", setting), UsageError) << setting;
  EXPECT_THROW(set(R"({"a": 3})", "a.b=1"), UsageError);
  EXPECT_THROW(set(R"({"a": [1]})", "a.0=1"), UsageError);
}

TEST(ApplySetting, RefusesInvalidUtf8) {
  EXPECT_THROW(set("{}", "a=\xff"), UsageError);
  EXPECT_THROW(set("{}", "\xff=1"), UsageError);
}

}  // namespace
}  // namespace llmtool
