// generate --input: tables whose rows, files and runs are not as they should be.

#include "run_fixture.h"

namespace llmtool {
namespace {

using nlohmann::json;
using test::Arguments;
using test::json_rows;
using test::read_text;
using test::run_program;
using test::RunResult;
using test::write_text;
namespace fs = std::filesystem;

class Tables : public test::RunTest {
 protected:
  void SetUp() override {
    RunTest::SetUp();
    ASSERT_NO_FATAL_FAILURE(train(10));
    write_text(place / "rows.jsonl", "{\"who\": \"the cat\"}\n{\"who\": \"a dog\"}\n{\"who\": \"my hen\"}\n");
    write_text(place / "t.txt", "{who} sees\n");
  }
  RunResult generate(const Arguments& more) const {
    Arguments all = {"--model", path("run"), "-n", "6", "--seed", "4"};
    all.insert(all.end(), more.begin(), more.end());
    return run_program("generate", all);
  }
  RunResult ask(const std::string& output, const Arguments& more = {}) const {
    Arguments all = {"--template", path("t.txt"), "--input", path("rows.jsonl"), "--output", path(output)};
    all.insert(all.end(), more.begin(), more.end());
    return generate(all);
  }
  void refused(const RunResult& r, const std::string& said) const {
    EXPECT_EQ(r.code, 2) << r.err;
    EXPECT_SAYS(r.err, said);
  }
  size_t records() const {
    return json_rows(run_program("llmtool", {"records", "export", path("r.db"), "--to", "jsonl"}).out).size();
  }
};

TEST_F(Tables, WhatIsReadIsNotWritten) {
  const std::string rows = read_text(place / "rows.jsonl"), shots = "{\"who\": \"x\", \"answer\": \"y\"}\n";
  fs::create_symlink(place / "rows.jsonl", place / "link.jsonl");
  write_text(place / "shots.jsonl", shots);
  refused(ask("rows.jsonl", {"--overwrite"}), "same file");
  refused(ask("link.jsonl", {"--overwrite"}), "same file");
  refused(ask("link.jsonl"), "same file");
  refused(ask("shots.jsonl", {"--overwrite", "--shots", path("shots.jsonl"), "--num-shots", "1"}), "shots");
  refused(ask("new.jsonl", {"--record", path("new.jsonl")}), "record");
  fs::copy(place / "t.txt", place / "b.jsonl.run.json");
  refused(generate({"--template", path("b.jsonl.run.json"), "--input", path("rows.jsonl"), "--output",
                    path("b.jsonl")}),
          "template");
  EXPECT_EQ(read_text(place / "rows.jsonl"), rows);
  EXPECT_EQ(read_text(place / "shots.jsonl"), shots);
  EXPECT_FALSE(fs::exists(place / "new.jsonl"));
  for (const char* name : {"x.json", "x.csv.gz", "x.tsv", "x"}) refused(ask(name), ".jsonl or .csv");
}

TEST_F(Tables, AnotherFormIsNoticed) {
  write_text(place / "g.gbnf", "root ::= [a-z]{1,3}\n");
  write_text(place / "s.json", "{\"enum\": [false]}");
  for (const auto& [flag, file] : {std::pair{"--grammar", "g.gbnf"}, std::pair{"--json-schema", "s.json"}}) {
    const std::string output = std::string(file) + ".jsonl";
    ASSERT_EQ(ask(output, {flag, path(file)}).code, 0);
    ASSERT_EQ(ask(output, {flag, path(file)}).code, 0);
    write_text(place / file, file[0] == 'g' ? "root ::= [a-z]{1,4}\n" : "{\"enum\": [1, false]}");
    refused(ask(output, {flag, path(file)}), "was made with other settings");
  }
}

TEST_F(Tables, ARowThatCannotBeReadIsSkipped) {
  const std::string good = read_text(place / "rows.jsonl");
  for (const char* name : {"a.jsonl", "a.csv"}) {
    write_text(place / "rows.jsonl",
               "{bad\n" + good + "[1]\n\"x\"\n{\"who\": \"a dog\", \"who\": \"a cat\"}\n");
    const RunResult stopped = ask(name);
    EXPECT_EQ(stopped.code, 1) << stopped.err;
    // What a stopped run wrote is gone on with.
    for (int i = 0; i < 2; ++i) {
      const RunResult r = ask(name, {"--on-error", "skip"});
      EXPECT_EQ(r.code, 0) << r.err;
    }
    EXPECT_EQ(ask(name).code, 0);
  }
  const auto rows = json_rows(read_text(place / "a.jsonl"));
  ASSERT_EQ(rows.size(), 7u);
  for (const size_t bad : {0, 4, 5, 6}) {
    EXPECT_EQ(rows[bad]["finish_reason"], "error");
    EXPECT_SAYS(rows[bad]["error"].get<std::string>(), "row " + std::to_string(bad + 1));
  }
  EXPECT_EQ(rows[3]["who"], "my hen");
}

TEST_F(Tables, ACsvRunThatStoppedGoesOnWithSkip) {
  const std::string good = read_text(place / "rows.jsonl");
  write_text(place / "rows.jsonl", good + "{bad\n{\"who\": \"a dog\"}\n{\"who\": [}\n");
  for (const bool choose : {false, true}) {
    const std::string name = choose ? "choices.csv" : "texts.csv";
    Arguments more = {"--template", path("t.txt"), "--input", path("rows.jsonl"), "--output", path(name)};
    if (choose) more.insert(more.end(), {"--choices", " fish, corn"});
    const auto go = [&] {
      Arguments all = {"--model", path("run")};
      all.insert(all.end(), more.begin(), more.end());
      return run_program("generate", all);
    };
    EXPECT_EQ(go().code, 1);
    more.insert(more.end(), {"--on-error", "skip"});
    const RunResult r = go();
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_SAYS(r.err, "have an error");
    EXPECT_SAYS(read_text(place / name), ",error,");
  }
}

TEST_F(Tables, NoAnswerIsRecordedTwice) {
  std::string rows;
  for (int i = 0; i < 20; ++i) rows += json{{"who", "the cat"}, {"n", i}}.dump() + "\n";
  write_text(place / "rows.jsonl", rows);
  const Arguments record = {"--record", path("r.db"), "--num-samples", "2"};
  ASSERT_EQ(ask("a.jsonl", record).code, 0);
  EXPECT_EQ(records(), 40u);
  const std::string whole = read_text(place / "a.jsonl");
  // As if killed after the last answers were recorded and before their rows were written.
  for (const size_t bytes : {whole.size() - 200, size_t{0}}) {
    write_text(place / "a.jsonl", whole.substr(0, bytes));
    ASSERT_EQ(ask("a.jsonl", record).code, 0);
    EXPECT_EQ(read_text(place / "a.jsonl"), whole);
    EXPECT_EQ(records(), 40u);
  }
  // The template is called by its file's name, wherever it lies.
  const RunResult list = run_program("llmtool", {"records", "export", path("r.db"), "--to", "jsonl"});
  EXPECT_EQ(json_rows(list.out)[0]["template"], "t.txt");
}

TEST_F(Tables, ACutFormIsToldAgainWhereTheTableIsContinued) {
  const Arguments form = {"--regex", "[a-z]{40}"};
  EXPECT_EQ(ask("a.csv", form).code, 3);
  const RunResult again = ask("a.csv", form);
  EXPECT_EQ(again.code, 3);
  EXPECT_SAYS(again.err, "3 answers there ended before they were whole");
  write_text(place / "run/model/chat_template.jinja", "{% for m in messages %}{{ m.content }}{% endfor %}");
  const RunResult talk = run_program(
      "generate", {"--model", path("run"), "--chat", "-n", "3", "--regex", "[a-z]{40}"}, "a cat\n");
  EXPECT_EQ(talk.code, 3);
  EXPECT_SAYS(talk.err, "before it was whole");
}

TEST_F(Tables, ADryRunFitsPromptsAsTheRealOneDoes) {
  const std::string text = "the cat sees fish. the dog likes corn. my hen eats grass. the end of it all";
  for (const char* mode : {"--dry-run", "--json"}) {
    EXPECT_EQ(generate({text, mode}).code, 1);
  }
  const auto dry = json_rows(generate({text, "--truncate", "left", "--dry-run", "--json"}).out),
             real = json_rows(generate({text, "--truncate", "left", "--json"}).out);
  ASSERT_EQ(dry.size(), 1u);
  EXPECT_EQ(dry[0]["prompt_ids"], real.at(0)["prompt_ids"]);
}

TEST_F(Tables, RowsThatDoNotFitAreKnownBeforeAndSkipped) {
  const std::string long_row(40, 'a'), long_choice(40, 'a');
  write_text(place / "rows.jsonl",
             "{\"who\": \"my hen\"}\n{\"who\": \"" + long_row + "\"}\n{\"who\": \"a dog\"}\n");
  const auto ask_table = [&](Arguments more) {
    Arguments all = {"--model", path("run"), "--template", path("t.txt"), "--input", path("rows.jsonl")};
    all.insert(all.end(), more.begin(), more.end());
    return run_program("generate", all);
  };
  // Too long for the context that is asked for; too long only with the longest choice.
  for (const Arguments& given : {Arguments{"--context", "24"}, {"--choices", " fish, " + long_choice}}) {
    const std::string said = given[0] == "--context" ? "context of 24" : "longest choice do not fit";
    for (const bool dry : {false, true}) {
      Arguments all = given;
      if (dry) all.push_back("--dry-run");
      const RunResult stopped = ask_table(all);
      EXPECT_EQ(stopped.code, 1) << stopped.err;
      EXPECT_SAYS(stopped.err, "rows.jsonl: row 2: ");
      EXPECT_SAYS(stopped.err, said);
      all.insert(all.end(), {"--on-error", "skip", "--json"});
      const RunResult skipped = ask_table(all);
      EXPECT_EQ(skipped.code, 0) << skipped.err;
      const auto rows = json_rows(skipped.out);
      ASSERT_EQ(rows.size(), dry ? 2u : 3u);
      EXPECT_EQ(rows.back()["index"], 2);
      if (!dry) {
        EXPECT_SAYS(rows[1]["error"].get<std::string>(), said);
      }
      Arguments cut = given;
      cut.insert(cut.end(), {"--truncate", "left", "--json"});
      if (dry) cut.push_back("--dry-run");
      const RunResult all_of_them = ask_table(cut);
      EXPECT_EQ(all_of_them.code, 0) << all_of_them.err;
      ASSERT_EQ(json_rows(all_of_them.out).size(), 3u);
      if (dry) {
        EXPECT_LT(json_rows(all_of_them.out)[1]["prompt_ids"].size(), 40u);
      }
    }
  }
}

TEST_F(Tables, ARowWhoseFormCannotBeSpeltIsSkipped) {
  const RunResult stopped = ask("a.jsonl", {"--regex", "a\xE2\x98\x83"});
  EXPECT_EQ(stopped.code, 1) << stopped.err;
  EXPECT_SAYS(stopped.err, "rows.jsonl: row 1: the tokenizer has no token");
  const RunResult skipped = ask("a.jsonl", {"--regex", "a\xE2\x98\x83", "--on-error", "skip"});
  EXPECT_EQ(skipped.code, 0) << skipped.err;
  const auto rows = json_rows(read_text(place / "a.jsonl"));
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_SAYS(rows[2]["error"].get<std::string>(), "row 3: the tokenizer has no token");
  EXPECT_EQ(ask("a.jsonl", {"--regex", "a\xE2\x98\x83", "--on-error", "skip"}).code, 0);
}

TEST_F(Tables, NoColumnIsLost) {
  write_text(place / "rows.jsonl", "{\"who\": \"the cat\", \"prompt\": \"p\", \"input_prompt\": \"q\"}\n");
  ASSERT_EQ(ask("a.jsonl").code, 0);
  const json row = json_rows(read_text(place / "a.jsonl")).at(0);
  EXPECT_EQ(row["prompt"], "the cat sees");
  EXPECT_EQ(row["input_prompt"], "q");
  EXPECT_EQ(row["input_input_prompt"], "p");
  const RunResult again = ask("a.jsonl");
  EXPECT_EQ(again.code, 0);
  EXPECT_SAYS(again.err, "1 row answered");
}

TEST_F(Tables, WhatDoesNothingOrIsMissingIsWrongUsage) {
  refused(generate({"a", "--draft-tokens", "3"}), "without --speculative");
  refused(generate({"a", "--num-shots", "3"}), "without --shots");
  refused(generate({"a", "--shot-selection", "bm25"}), "without --shots");
  refused(generate({"a", "--overwrite"}), "without --output");
  refused(generate({"a", "--on-error", "skip"}), "without --input");
  refused(generate({"a", "--logprobs", "2"}), "without --json");
  refused(generate({"--input", path("rows.jsonl"), "--null"}), "--null");
  refused(run_program("generate", {"--model", path("run"), "a", "--choices", "x,y", "--set", "regex=\"b\""}),
          "beside them");
  for (const char* flag : {"--template", "--shots", "--grammar", "--json-schema"})
    refused(generate({flag, path("none"), "--output", path("a.jsonl"), "--input", path("rows.jsonl")}),
            "none");
}

}  // namespace
}  // namespace llmtool
