// generate --regex, --grammar, --json-schema: answers are of the form, or said not to be.

#include <cmath>
#include <regex>

#include "run_fixture.h"

namespace llmtool {
namespace {

using nlohmann::json;
using test::Arguments;
using test::json_rows;
using test::run_program;
using test::RunResult;
using test::write_text;

class Form : public ::testing::Test {
 protected:
  void SetUp() override {
    model = test::reference_data("weights/stories260K/hf").string();
    if (model.empty()) GTEST_SKIP();
  }
  RunResult generate(Arguments arguments, const std::string& input = "") const {
    arguments.insert(arguments.begin(), {"--model", model});
    return run_program("generate", arguments, input);
  }

  std::string model;
  test::TempFolder place;
};

TEST_F(Form, AnswersMatchTheRegexWhateverTheModelLikes) {
  for (const char* prompt : {"Once upon a time", ""}) {
    const Arguments arguments = {
        prompt, "--regex", "[0-9]{3}-[a-z]+", "--temperature", "2", "--num-samples", "60", "--json",
        "-n",   "40"};
    const RunResult r = generate(arguments);
    int whole = 0;
    for (const json& row : json_rows(r.out)) {
      const std::string text = row["text"];
      const bool complete = std::regex_match(text, std::regex("[0-9]{3}-[a-z]+"));
      EXPECT_TRUE(complete) << text;
      EXPECT_EQ(row["complete"], complete);
      whole += row["finish_reason"] == "stop";
    }
    EXPECT_EQ(json_rows(r.out).size(), 60u);
    EXPECT_EQ(r.code, 0) << r.err;
    Arguments alone = arguments;
    alone.insert(alone.end(), {"--batch-size", "1"});
    const auto texts = [](const RunResult& result) {
      std::vector<std::string> list;
      for (const json& row : json_rows(result.out)) list.push_back(row["text"]);
      return list;
    };
    EXPECT_EQ(texts(generate(alone)), texts(r));
  }
}

TEST_F(Form, AnnotationsAreNamedUnlessQuiet) {
  write_text(place / "s.json",
             R"({"type": "object", "properties": {"a/b": {"enum": ["x"], "format": "ipv4", "title": "t"}}})");
  const Arguments arguments = {"a", "--json-schema", (place / "s.json").string(), "-n", "2", "--quiet"};
  const std::string warning = "warning: #/properties/a~1b/format: an annotation, not enforced\n";
  EXPECT_EQ(generate(arguments).err.find(warning), std::string::npos);
  const RunResult r = generate({arguments.begin(), arguments.end() - 1});
  const size_t at = r.err.find(warning);
  ASSERT_NE(at, std::string::npos) << r.err;
  EXPECT_EQ(r.err.find("annotation", at + warning.size()), std::string::npos) << r.err;
}

TEST_F(Form, AnAnswerEndsWhereNothingCanFollow) {
  const RunResult r = generate({"Is it?", "--regex", "(yes|no)!", "--num-samples", "8", "--json"});
  ASSERT_EQ(r.code, 0) << r.err;
  for (const json& row : json_rows(r.out)) {
    EXPECT_TRUE(row["text"] == "yes!" || row["text"] == "no!") << row;
    EXPECT_EQ(row["finish_reason"], "stop");
  }
  for (const char* flag : {"--regex", "--grammar", "--json-schema"}) {
    const RunResult none = generate({"Is it?", flag, "", "-n", "1"});
    EXPECT_EQ(none.code, 2) << flag;
    EXPECT_SAYS(none.err, "expected a form, found an empty value");
  }
  const RunResult empty = generate({"Is it?", "--regex", "()", "--json"});
  EXPECT_EQ(json_rows(empty.out).at(0)["text"], "");
  EXPECT_EQ(json_rows(empty.out).at(0)["finish_reason"], "stop");
}

TEST_F(Form, AnAnswerCutShortIsDeliveredAndSaid) {
  const Arguments arguments = {"Once", "Then", "--regex", "[a-z]{50}|x", "-n", "3", "--seed", "1"};
  Arguments rows = arguments;
  rows.push_back("--json");
  const RunResult with_rows = generate(rows), plain = generate(arguments);
  EXPECT_EQ(with_rows.code, 3);
  EXPECT_EQ(plain.code, 3);
  const auto list = json_rows(with_rows.out);
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0]["finish_reason"], "length");
  EXPECT_EQ(list[0]["complete"], false);
  EXPECT_EQ(plain.out, list[0]["text"].get<std::string>() + "\n" + list[1]["text"].get<std::string>() + "\n");
  EXPECT_SAYS(plain.err,
              "prompt 2: the answer ended before it was whole, after 3 tokens; a larger --max-new");
  const RunResult full = generate({"Once", "--regex", "[a-z]{50}", "--context", "8"});
  EXPECT_EQ(full.code, 3);
  EXPECT_SAYS(full.err, "the context is full");
  const RunResult stopped = generate({"Once", "--regex", "ab{50}", "--stop", "bb", "--json"});
  EXPECT_EQ(stopped.code, 3);
  EXPECT_SAYS(stopped.err, "a stop text cut it");
  EXPECT_EQ(json_rows(stopped.out).at(0)["finish_reason"], "stop");
}

TEST_F(Form, AGrammarHoldsAnswersAndTheirLogProbabilitiesStayTheModels) {
  write_text(
      place / "list.gbnf",
      "root ::= \"[\" item (\", \" item){0,3} \"]\"\nitem ::= [1-9] [0-9]{0,2} | \"\\\"\" [a-zA-Z ]{0,8} "
      "\"\\\"\"\n");
  const RunResult r = generate({"A list:", "--grammar", (place / "list.gbnf").string(), "--num-samples", "20",
                                "--temperature", "1.5", "--json"});
  ASSERT_EQ(r.code, 0) << r.err;
  std::string again;
  const auto list = json_rows(r.out);
  for (const json& row : list) {
    EXPECT_TRUE(json::parse(row["text"].get<std::string>()).is_array()) << row["text"];
    json ids = row["prompt_ids"];
    ids.insert(ids.end(), row["ids"].begin(), row["ids"].end());
    again += json{{"prompt_ids", ids}}.dump() + "\n";
  }
  const RunResult scored = generate({"--input-format", "jsonl", "-n", "0", "--echo", "--json"}, again);
  const auto scores = json_rows(scored.out);
  ASSERT_EQ(scores.size(), list.size()) << scored.err;
  for (size_t i = 0; i < list.size(); ++i) {
    const auto& expected = scores[i]["prompt_logprobs"];
    const size_t first = list[i]["prompt_ids"].size();
    for (size_t k = 0; k < list[i]["logprobs"].size(); ++k) {
      EXPECT_NEAR(list[i]["logprobs"][k].get<double>(), expected[first + k].get<double>(), 1e-4);
    }
  }
}

TEST_F(Form, AJsonSchemaHoldsAnswers) {
  write_text(place / "s.json", R"({"type": "object", "properties": {"word": {"enum": ["yes", "no"]},
      "n": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["n", "word"],
      "additionalProperties": false})");
  const RunResult r = generate({"Is it?", "--json-schema", (place / "s.json").string(), "--temperature", "2",
                                "--num-samples", "20", "-n", "120", "--json"});
  int whole = 0;
  for (const json& row : json_rows(r.out)) {
    if (row["finish_reason"] != "stop") continue;
    const json answer = json::parse(row["text"].get<std::string>());
    EXPECT_EQ(answer.size(), 2u) << answer;
    EXPECT_TRUE(answer["word"] == "yes" || answer["word"] == "no") << answer;
    const double n = answer["n"];
    EXPECT_TRUE(n >= 1 && n <= 9 && n == std::floor(n)) << answer;
    ++whole;
  }
  EXPECT_GT(whole, 0) << r.err;
}

TEST_F(Form, WhatCannotBeAFormIsWrongUsage) {
  write_text(place / "bad.gbnf", "root ::= \"a\" |\n  b\n");
  const auto says = [&](const Arguments& arguments, const std::string& message) {
    const RunResult r = generate(arguments);
    EXPECT_EQ(r.code, 2) << r.err;
    EXPECT_SAYS(r.err, message);
  };
  says({"a", "--regex", "(a"}, "regex: character 1: expected )");
  says({"a", "--grammar", (place / "bad.gbnf").string()},
       "bad.gbnf: line 2, column 4: expected a rule \"b\"");
  says({"a", "--regex", "a", "--grammar", (place / "bad.gbnf").string()},
       "grammar: expected one form at most, found regex beside it");
  write_text(place / "bad.json", R"({"items": {"minLenght": 1}})");
  says({"a", "--json-schema", (place / "bad.json").string()},
       "bad.json at #/items/minLenght: not a keyword of draft 2020-12; did you mean \"minLength\"");
}

}  // namespace
}  // namespace llmtool
