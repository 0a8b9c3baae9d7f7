// records: the database of answers, through the program.

#include <fcntl.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "run_fixture.h"

namespace llmtool {
namespace {

using nlohmann::json;
using test::Arguments;
using test::json_rows;
using test::read_text;
using test::RunResult;
using test::write_text;

class Records : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return (place / name).string(); }
  /// The subcommand on the database.
  RunResult records(const std::string& name, Arguments more = {}, const std::string& input = "") const {
    Arguments arguments = {"records", name, path("r.db")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return test::run_program("llmtool", arguments, input);
  }
  std::string printed(const std::string& name, const Arguments& more = {},
                      const std::string& input = "") const {
    const RunResult r = records(name, more, input);
    EXPECT_EQ(r.code, 0) << r.err;
    return r.out;
  }
  json result(const std::string& name, Arguments more = {}) const {
    more.emplace_back("--json");
    return json::parse(printed(name, more));
  }
  std::vector<json> rows(Arguments more = {}) const {
    more.emplace_back("--json");
    return json_rows(printed("list", more));
  }

  /// Ten questions under two templates: the first answers 7 of them as expected, the second 3 of these 7 and
  /// 1 of the others.
  void fill() const {
    for (const char* name : {"plain.txt", "few.txt"}) {
      const bool first = name[0] == 'p';
      write_text(place / name, std::string(name) + ": {n}");
      std::string table;
      for (int n = 0; n < 10; ++n) {
        const bool good = first ? n < 7 : n < 3 || n == 9;
        table += json({{"n", n},
                       {"prompt", std::string(name) + ": " + std::to_string(n)},
                       {"text", good ? " yes\n" : "no"},
                       {"finish_reason", "stop"}})
                     .dump() +
                 "\n";
      }
      write_text(place / "table.jsonl", table);
      EXPECT_EQ(printed("import", {path("table.jsonl"), "--template", path(name), "--model", "m"}),
                "added 10; left out 0 that are on record; completed 0 by a verdict or an expected answer\n");
    }
    std::string truth = "n,label\n";
    for (int n = 9; n >= 0; --n) truth += std::to_string(n) + ",yes\n";
    write_text(place / "truth.csv", truth);
  }
  json judge_by_truth() const {
    return result("judge", {"--truth", path("truth.csv"), "--column", "label", "--key", "n"});
  }

  test::TempFolder place;
};

TEST_F(Records, AddListAndShow) {
  EXPECT_EQ(printed("add", {"--prompt", "2 + 2 =", "--response", "5", "--expected", "4", "--input",
                            "{\"a\": 2, \"b\": 2}", "--model", "runs/adder"}),
            "1\n");
  std::string wild = "\x1B[2J";
  wild.append(300, 'x');
  EXPECT_EQ(result("add", {"--prompt", "Hi\nthere", "--response", wild, "--verdict", "right"}),
            json({{"id", 2}}));
  const std::string list = printed("list");
  EXPECT_SAYS(list, "id  verdict  time");
  EXPECT_SAYS(list, "adder");
  EXPECT_SAYS(list, "{\"a\":2,\"b\":2}");
  EXPECT_SAYS(list, "Hi there");
  EXPECT_EQ(list.find('\x1B'), std::string::npos);
  std::istringstream lines(list);
  for (std::string line; std::getline(lines, line);)
    EXPECT_LE(line.size(), 102u) << line;  // U+FFFD has 3 bytes
  const std::string shown = printed("show", {"2", "1"});
  for (const char* said : {"record    2", "right by person", "--- prompt\nHi\nthere\n", "--- expected\n4\n"})
    EXPECT_SAYS(shown, said);
  const json row = json::parse(printed("show", {"1", "--json"}));
  EXPECT_EQ(row["input"], json({{"a", 2}, {"b", 2}}));
  EXPECT_EQ(row["verdict"], nullptr);
  EXPECT_EQ(rows({"--verdict", "none"}).size(), 1u);
  EXPECT_EQ(rows({"--limit", "1"})[0]["id"], 2);
  EXPECT_EQ(rows({"--model", "adder"}).size(), 1u);
}

TEST_F(Records, ATableIsImportedOnceAndJudgedByTruth) {
  fill();
  EXPECT_EQ(result("import", {path("table.jsonl"), "--template", path("few.txt"), "--model", "m"}),
            json({{"added", 0}, {"known", 10}, {"completed", 0}, {"failed", 0}}));
  const json judged = judge_by_truth();
  EXPECT_EQ(judged["judged"], 20);
  EXPECT_EQ(judged["right"], 11);
  EXPECT_NEAR(judged["interval"][0].get<double>(), 0.342, 5e-4);
  EXPECT_EQ(rows({"--verdict", "wrong"})[0]["expected"], "yes");
  EXPECT_EQ(judge_by_truth()["judged"], 0) << "all are";
  const std::string again = printed("judge", {"--exact", "--keep-space", "--all"});
  EXPECT_SAYS(again, "judged 20: 0 right, 20 wrong; accuracy 0.000 (0.000 to 0.161)");
  EXPECT_SAYS(printed("judge", {"--regex", "yes|no", "--all", "--template", "plain.txt"}),
              "judged 10: 10 right");
}

TEST_F(Records, TruthInOrderNeedsARowForEach) {
  fill();
  EXPECT_EQ(records("judge", {"--truth", path("truth.csv"), "--column", "label"}).code, 2);
  const json judged = result(
      "judge", {"--truth", path("truth.csv"), "--column", "n", "--template", "plain.txt", "--json-equal"});
  EXPECT_EQ(judged["wrong"], 10);
  EXPECT_EQ(rows({"--limit", "20"})[0]["expected"], "9");
  EXPECT_EQ(result("judge", {"--exact"})["left"]["no_expected"], 10);
}

TEST_F(Records, ComparesTemplatesRowByRow) {
  fill();
  judge_by_truth();
  const json c = result("compare", {"plain.txt", "few.txt", "--rows"});
  EXPECT_EQ(c["both_right"], 3);
  EXPECT_EQ(c["only_a"], 4);
  EXPECT_EQ(c["only_b"], 1);
  EXPECT_EQ(c["both_wrong"], 2);
  EXPECT_NEAR(c["p"].get<double>(), 0.375, 1e-12);  // 2 (1 + 5) / 2^5
  EXPECT_EQ(c["a"]["accuracy"], 0.7);
  ASSERT_EQ(c["rows"].size(), 5u);
  EXPECT_EQ(c["rows"][0]["input"], json({{"n", 3}}));
  EXPECT_EQ(c["rows"][0]["right"], "a");
  EXPECT_EQ(c["rows"][4]["right"], "b");
  const RunResult text = records("compare", {"plain.txt", "few.txt"});
  EXPECT_EQ(text.err, "");
  for (const char* said : {"plain.txt@", "7 of 10 right", "both right 3, A alone 4, B alone 1, both wrong 2",
                           "two-sided: p = 0.375"})
    EXPECT_SAYS(text.out, said);
  printed("add", {"--prompt", "p", "--response", "r", "--template", path("few.txt"), "--model", "other"});
  EXPECT_SAYS(records("compare", {"plain.txt", "few.txt"}).err,
              "warning: the answers are of more than one model");
  EXPECT_EQ(records("compare", {"plain.txt", "few.txt", "--model", "m"}).err, "");
  const RunResult nothing = records("compare", {"m", "other", "--by", "model"});
  EXPECT_EQ(nothing.code, 1);
  EXPECT_SAYS(nothing.err, "10 that A alone answered");
  for (const Arguments& wrong : {Arguments{"plain.txt", "none.txt"},
                                 {"plain.txt", "plain.txt"},
                                 {"plain.txt", "few.txt", "--template", "few.txt"}})
    EXPECT_EQ(records("compare", wrong).code, 2);
  const json stats = result("stats");
  EXPECT_EQ(stats["groups"].size(), 3u);
  EXPECT_EQ(stats["groups"][1]["right"], 4);
  EXPECT_EQ(stats["examples"], 20);
  EXPECT_EQ(stats["preferences"], 9);
}

TEST_F(Records, WhatJoinsNothingIsSaid) {
  fill();
  const RunResult none = records("compare", {path("plain.txt"), path("few.txt")});
  EXPECT_EQ(none.code, 1);
  EXPECT_SAYS(none.err, "nothing could be compared");
  const RunResult judged =
      records("judge", {"--truth", path("truth.csv"), "--column", "label", "--key", "label"});
  EXPECT_SAYS(judged.err, "--key label: no record's input matches");
}

TEST_F(Records, ExportsWhatCanBeTrainedOn) {
  fill();
  judge_by_truth();
  const RunResult r = records("export", {"--to", "preferences", "--output", path("pairs.jsonl")});
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_SAYS(r.err, "9 of the recommended 1,000 examples");
  const auto pairs = json_rows(read_text(place / "pairs.jsonl"));
  ASSERT_EQ(pairs.size(), 9u);
  EXPECT_EQ(pairs[0], json({{"prompt", "plain.txt: 7"}, {"chosen", "yes"}, {"rejected", "no"}}));
  const RunResult rows = records("export", {"--to", "finetune"});
  EXPECT_EQ(json_rows(rows.out).size(), 20u);
  EXPECT_SAYS(rows.err, "20 of the recommended 1,000 examples");
  EXPECT_EQ(records("export", {"--to", "finetune", "--output", path("r.db")}).code, 2);
  EXPECT_EQ(records("export", {"--to", "finetune", "--json"}).code, 2);
}

TEST_F(Records, AnExportIsImportedWholeIntoAnother) {
  fill();
  judge_by_truth();
  printed("export", {"--output", path("all.jsonl")});
  const auto before = rows();
  std::filesystem::remove(place / "r.db");
  const std::string whole = read_text(place / "all.jsonl");
  EXPECT_SAYS(printed("import", {"-"}, whole), "added 20");
  EXPECT_EQ(rows(), before);
  EXPECT_SAYS(printed("import", {path("all.jsonl")}), "left out 20");
}

TEST_F(Records, JudgedByHandFromLines) {
  for (const char* response : {"one", "two", "three", "four"})
    printed("add", {"--prompt", "p", "--response", response, "--expected", "one"});
  // Right; wrong with two lines; undone and right; skipped; the end of the input ends it.
  const RunResult r = records("judge", {}, "r\nw\nfirst\\\nsecond\nu\nx\nr\ns\n");
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_SAYS(r.out, "judged 2: 2 right, 0 wrong");
  EXPECT_SAYS(r.err, "=== record 2 (2 of 4)");
  auto found = rows();
  EXPECT_EQ(found[0]["verdict"], "right");
  EXPECT_EQ(found[0]["judged_by"], "person");
  EXPECT_EQ(found[1]["verdict"], "right");
  EXPECT_EQ(found[1]["expected"], "one") << "undone";
  EXPECT_EQ(found[2]["verdict"], nullptr);
  EXPECT_SAYS(printed("judge", {}, "w\nfirst\\\nsecond\nw\n\n"), "judged 2: 0 right, 2 wrong");
  found = rows();
  EXPECT_EQ(found[2]["expected"], "first\nsecond");
  EXPECT_EQ(found[3]["expected"], "one") << "an empty line leaves what was expected";
}

/// Reads from a terminal until `end` has come.
std::string read_until(int terminal, const std::string& end) {
  std::string text;
  char buffer[4096];
  while (text.find(end) == std::string::npos) {
    const ssize_t n = ::read(terminal, buffer, sizeof buffer);
    if (n <= 0) break;
    text.append(buffer, static_cast<size_t>(n));
  }
  return text;
}

TEST_F(Records, JudgedByHandOnATerminal) {
  for (const char* response : {"one", "two", "three"})
    printed("add", {"--prompt", "p", "--response", response});
  const std::string binary = test::program_path("llmtool").string();
  const std::string db = path("r.db");
  int terminal = -1;
  const pid_t child = forkpty(&terminal, nullptr, nullptr, nullptr);
  if (child == 0) {
    execl(binary.c_str(), "llmtool", "records", "judge", db.c_str(), nullptr);
    _exit(127);
  }
  const auto press = [&](const char* keys, const char* asked) {
    const std::string text = read_until(terminal, asked);
    EXPECT_SAYS(text, asked);
    EXPECT_EQ(write(terminal, keys, strlen(keys)), static_cast<ssize_t>(strlen(keys)));
    return text;
  };
  press("\x1b[Ar", "q quit: ");  // no Enter; an arrow is no key
  EXPECT_SAYS(press("w", "q quit: "), "record 2");
  press("2\n", "not known): ");
  EXPECT_SAYS(press("\x03", "q quit: "), "record 3");  // Ctrl-C
  EXPECT_SAYS(read_until(terminal, "1 wrong"), "judged 2: 1 right, 1 wrong");
  int status = -1;
  waitpid(child, &status, 0);
  close(terminal);
  EXPECT_EQ(status, 0);
  const auto found = rows();
  EXPECT_EQ(found[1]["expected"], "2");
  EXPECT_EQ(found[2]["verdict"], nullptr);
}

TEST_F(Records, WrongRequestsAndBadFilesAreToldApart) {
  const struct {
    const char* name;
    Arguments more;
    int code;
  } rows[] = {{"list", {}, 2},  // no file yet
              {"add", {"--prompt", "p"}, 2},
              {"add", {"--prompt", "p", "--response", "r", "--input", "{\"a\""}, 2},
              {"add", {"--prompt", "p", "--response", "r", "--settings", "3"}, 2},
              {"add", {"--prompt", "p", "--response", "r", "--verdict", "maybe"}, 2},
              {"import", {path("nothing.jsonl")}, 2},
              {"add", {"--prompt", "p", "--response", "r"}, 0},
              {"show", {"7"}, 2},
              {"judge", {"--exact", "--regex", "a"}, 2},
              {"judge", {"--regex", "("}, 2},
              {"judge", {"--truth", path("t.csv")}, 2},
              {"judge", {"--key", "a"}, 2},
              {"judge", {"--keep-space"}, 2},
              {"list", {"--template", "none"}, 2},
              {"list", {"--limit", "0"}, 2},
              {"export", {"--to", "csv"}, 2},
              {"compare", {"a", "b", "--by", "time"}, 2},
              {"forget", {}, 2}};
  for (const auto& row : rows) {
    const RunResult r = records(row.name, row.more);
    EXPECT_EQ(r.code, row.code) << row.name << ": " << r.err;
  }
  EXPECT_FALSE(std::filesystem::exists(place / "nothing.jsonl"));
  write_text(place / "bad.jsonl", "{\"prompt\": \"p\"}\n");
  EXPECT_EQ(test::run_program("llmtool", {"records", "import", path("new.db"), path("bad.jsonl")}).code, 1);
  EXPECT_FALSE(std::filesystem::exists(place / "new.db"));
  const RunResult table = records("import", {path("bad.jsonl")});
  EXPECT_EQ(table.code, 1);
  EXPECT_SAYS(table.err, "bad.jsonl: row 1: response");
  write_text(place / "r.db", "no database at all");
  for (const char* name : {"list", "stats"}) {
    const RunResult r = records(name);
    EXPECT_EQ(r.code, 1);
    EXPECT_SAYS(r.err, "expected a SQLite database");
  }
  EXPECT_EQ(read_text(place / "r.db"), "no database at all");
}

class RecordsToFinetune : public test::RunTest {};

TEST_F(RecordsToFinetune, AcceptsWhatIsExported) {
  ASSERT_EQ(pretrain("base").code, 0);
  std::string table;
  for (int n = 0; n < 12; ++n) {
    for (const char* response : {"sees fish.", "eats corn."})
      table += json({{"prompt", std::string(static_cast<size_t>(n) + 1, 'a') + " the cat"},
                     {"response", response},
                     {"expected", " likes grass."}})
                   .dump() +
               "\n";
  }
  write_text(place / "table.jsonl", table);
  ASSERT_EQ(test::run_program("llmtool", {"records", "import", path("r.db"), path("table.jsonl")}).code, 0);
  const RunResult out = test::run_program(
      "llmtool", {"records", "export", path("r.db"), "--to", "finetune", "--output", path("rows.jsonl")});
  EXPECT_SAYS(out.err, "12 of the recommended 1,000 examples");
  EXPECT_SAYS(out.err, "left out: 12 that are the same as another");
  write_text(place / "pairs.jsonl", "{\"prompt\": \"p\", \"chosen\": \"a\", \"rejected\": \"b\"}\n");
  const RunResult pairs = test::run_program(
      "finetune", {"--model", path("base"), "--data", path("pairs.jsonl"), "--output", path("no"), "--lora"});
  EXPECT_EQ(pairs.code, 1);
  EXPECT_SAYS(pairs.err, "preference training, which is not there yet");
  const RunResult r = test::run_program("finetune", {"--model", path("base"), "--data", path("rows.jsonl"),
                                                     "--output", path("run"), "--lora", "--dry-run"});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_SAYS(r.err, "12 examples");
}

}  // namespace
}  // namespace llmtool
