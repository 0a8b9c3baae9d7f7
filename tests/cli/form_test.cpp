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

/// A form that is given on the command line is used wrongly where it is bad, a file is bad itself.
TEST(FormFiles, WhatIsBadSaysWhereAndTheExitCodeWhose) {
  const test::TempFolder place;
  const struct {
    const char *flag, *content;  // nullptr: no such file
    int code;
    const char* said;
  } rows[] = {
      {"--grammar", nullptr, 2, "form: expected a file, found none"},
      {"--grammar", "", 1, "form: expected a rule \"root\", found none"},
      {"--grammar", "root ::= \"a\n", 1, "form: line 1, column 10: expected \" at the end of the literal"},
      {"--grammar", "root ::= \"a\"\nb := \"b\"\n", 1, "form: line 2, column 3: expected ::=, found :"},
      {"--grammar", "root ::= \"a\" |\n  b\n", 1,
       "form: line 2, column 4: expected a rule \"b\", found none"},
      {"--grammar", "root ::= root \"a\"\n", 1,
       "form: line 1, column 1: root: expected a form that some text has"},
      {"--grammar", "root ::= root \"a\" | \"b\"\n", 0, ""},
      {"--grammar", "root ::= \"\xFF\"\n", 1, "form: expected UTF-8"},
      {"--json-schema", nullptr, 2, "form: expected a file, found none"},
      {"--json-schema", "", 1, "form: parse error at line 1, column 1"},
      {"--json-schema", "{\"type\":\n  }", 1, "line 2, column 3"},
      {"--json-schema", "{\"items\": {\"minLenght\": 1}}", 1,
       "form at #/items/minLenght: not a keyword of draft 2020-12; did you mean \"minLength\""},
      {"--json-schema", "{\"items\": {\"$vocabulary\": {}}}", 1,
       "form at #/items/$vocabulary: not a keyword"},
      {"--json-schema", "{\"items\": {\"pattern\": \"(\"}}", 1, "form at #/items/pattern: "},
      {"--json-schema", "{\"properties\": {\"a\": {\"$ref\": \"#/none\"}}}", 1,
       "form at #/properties/a/$ref: "},
      {"--json-schema", "{\"minimum\": 1e999}", 1, "form"},
      {"--json-schema", "{\"$ref\": \"#\"}", 1, "form at #"},
      {"--json-schema", "false", 1, "form at #"},
      {"--json-schema", "{}", 0, ""},
      {"--regex", "(a", 2, "regex: character 1: expected )"},
      {"--regex", "\\bword", 2, "regex: character 1: "},
      {"--regex", "a{3,2}", 2, "regex: character 2: "}};
  for (const auto& row : rows) {
    const std::string file = (place / "form").string();
    const bool of_file = std::string(row.flag) != "--regex";
    std::filesystem::remove(file);
    if (of_file && row.content) write_text(file, row.content);
    // Forms are read before the model is looked for.
    const RunResult r = run_program(
        "generate", {"--model", (place / "none").string(), "a", row.flag, of_file ? file : row.content});
    const std::string name =
        std::string(row.flag) + " " + (row.content ? row.content : "that is not there") + ": ";
    if (row.code == 0) {
      EXPECT_EQ(r.err.find("form"), std::string::npos) << name << r.err;
      continue;
    }
    EXPECT_EQ(r.code, row.code) << name << r.err;
    EXPECT_NE(r.err.find(row.said), std::string::npos) << name << r.err;
  }
  write_text(place / "form", "root ::= \"a\"\n");
  const RunResult two = run_program(
      "generate", {"--model", "none", "a", "--regex", "a", "--grammar", (place / "form").string()});
  EXPECT_EQ(two.code, 2);
  EXPECT_SAYS(two.err, "grammar: expected one form at most, found regex beside it");
}

}  // namespace
}  // namespace llmtool
