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
  size_t records(const std::string& database = "r.db") const {
    const RunResult r = run_program("llmtool", {"records", "export", path(database), "--to", "jsonl"});
    return json_rows(r.out).size();
  }
  static std::string repeated(const std::string& text, int times) {
    std::string all;
    for (int i = 0; i < times; ++i) all += text;
    return all;
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

TEST_F(Tables, ChoicesSayWhatTheySayOfPlainPrompts) {
  const auto choose = [&](Arguments more) {
    more.insert(more.begin(), {"--model", path("run"), "--choices", " fish, corn", "--json"});
    const RunResult r = run_program("generate", more);
    EXPECT_EQ(r.code, 0) << r.err;
    return json_rows(r.out).at(0);
  };
  const json row = choose({"--template", path("t.txt"), "--input", path("rows.jsonl")});
  const json plain = choose({row.at("prompt").get<std::string>()});
  for (const char* name : {"choice", "probabilities", "tokens", "finish_reason"}) {
    ASSERT_TRUE(row.contains(name) && plain.contains(name)) << name;
    EXPECT_EQ(row[name], plain[name]) << name;
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
  // Rows that repeat have answers of their own, behind a stop and where they are added.
  const Arguments all = {"--record", path("s.db"), "--temperature", "0"};
  std::string same = repeated("{\"who\": \"the cat\"}\n", 100);
  for (const char* name : {"same.jsonl", "same.csv"}) {
    fs::remove(place / "s.db");
    write_text(place / "rows.jsonl", same);
    ASSERT_EQ(ask(name, all).code, 0);
    EXPECT_EQ(records("s.db"), 100u);
    const std::string answers = read_text(place / name);
    write_text(place / name, answers.substr(0, answers.size() * 2 / 3));
    ASSERT_EQ(ask(name, all).code, 0);
    EXPECT_EQ(records("s.db"), 100u);
    write_text(place / "rows.jsonl", same + same);
    ASSERT_EQ(ask(name, all).code, 0);
    EXPECT_EQ(records("s.db"), 200u);
    // The same answers of another table are other ones.
    ASSERT_EQ(ask(name, {"--record", path("s.db"), "--temperature", "0", "--overwrite"}).code, 0);
    const std::string twice = read_text(place / name);  // of which a kill may cost a batch of 64
    write_text(place / name, twice.substr(0, twice.size() * 3 / 4));
    ASSERT_EQ(ask(name, all).code, 0);
    EXPECT_EQ(records("s.db"), 400u);
  }
  // The template is called by its file's name, wherever it lies.
  const RunResult list = run_program("llmtool", {"records", "export", path("r.db"), "--to", "jsonl"});
  EXPECT_EQ(json_rows(list.out)[0]["template"], "t.txt");
}

TEST_F(Tables, ARunThatFailsBeforeItsFirstAnswerLeavesWhatWasThere) {
  ASSERT_EQ(ask("a.jsonl").code, 0);
  const std::string answers = read_text(place / "a.jsonl"), made_by = read_text(place / "a.jsonl.run.json");
  write_text(place / "bad.gbnf", "root ::= b\n");
  write_text(place / "bad.jsonl", "{\"whom\": 1}\n");
  write_text(place / "long.txt", std::string(400, 'a') + "{who}");
  const Arguments failing[] = {
      {"--model", path("none")},      {"--grammar", path("bad.gbnf")},  {"--regex", "("},
      {"--input", path("bad.jsonl")}, {"--template", path("long.txt")}, {"--num-beams", "2", "--stop", "x"},
      {"--logit-bias", "99999=1"}};
  for (const Arguments& wrong : failing) {
    Arguments all = {"-n", "6", "--output", path("a.jsonl"), "--overwrite", "--record", path("r.db")};
    const auto give = [&](const char* flag, const std::string& value) {
      if (wrong[0] != flag) all.insert(all.end(), {flag, value});
    };
    give("--model", path("run"));
    give("--template", path("t.txt"));
    give("--input", path("rows.jsonl"));
    all.insert(all.end(), wrong.begin(), wrong.end());
    const RunResult r = run_program("generate", all);
    EXPECT_TRUE(r.code == 1 || r.code == 2) << wrong[0] << r.err;
    EXPECT_EQ(read_text(place / "a.jsonl"), answers) << wrong[0];
    EXPECT_EQ(read_text(place / "a.jsonl.run.json"), made_by) << wrong[0];
    EXPECT_FALSE(fs::exists(place / "r.db")) << wrong[0];
  }
  EXPECT_EQ(generate({std::string(400, 'a'), "--record", path("r.db")}).code, 1);
  EXPECT_FALSE(fs::exists(place / "r.db"));
  const RunResult nowhere = generate({"a", "--record", path("no/r.db")});
  EXPECT_EQ(nowhere.code, 1);
  EXPECT_SAYS(nowhere.err, "r.db: cannot be created");
  EXPECT_EQ(nowhere.out, "");
  ASSERT_EQ(ask("a.jsonl", {"--overwrite", "--temp", "1.5", "--record", path("r.db")}).code, 0);
  EXPECT_NE(read_text(place / "a.jsonl.run.json"), made_by);
  EXPECT_EQ(records(), 3u);
}

TEST_F(Tables, ACutFormIsToldAgainWhereTheTableIsContinued) {
  const Arguments form = {"--regex", "[a-z]{40}", "--record", path("r.db")};
  const RunResult cut = ask("a.csv", form);
  EXPECT_EQ(cut.code, 3);
  EXPECT_SAYS(cut.err, "3 answers ended before they were whole; the first: ");
  EXPECT_SAYS(cut.err, "rows.jsonl: row 1: a larger --max-new-tokens gives it room");
  EXPECT_EQ(cut.err.find("prompt 1"), std::string::npos);
  ASSERT_EQ(generate({"a", "--regex", "a|b", "--record", path("r.db")}).code, 0);
  ASSERT_EQ(generate({"a", "--record", path("r.db")}).code, 0);
  const RunResult whole = run_program("llmtool", {"records", "list", path("r.db"), "--json"});
  const auto kept = json_rows(whole.out);
  ASSERT_EQ(kept.size(), 5u) << whole.err;
  EXPECT_EQ(kept[0]["finish_reason"], "length");
  EXPECT_EQ(kept[0]["complete"], false);
  EXPECT_EQ(kept[3]["complete"], true);
  EXPECT_EQ(kept[4]["complete"], nullptr) << "no form";
  EXPECT_SAYS(run_program("llmtool", {"records", "show", path("r.db"), "1"}).out,
              "finish    length, before the form was whole");
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
