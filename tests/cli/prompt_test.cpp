// generate: prompts made of templates, examples and conversations; a table in, a table out.

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

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

class Prompting : public test::RunTest {
 protected:
  void SetUp() override {
    RunTest::SetUp();
    ASSERT_NO_FATAL_FAILURE(train(30));
    std::string rows;
    const char* const who[] = {"the cat", "a dog", "my hen"};
    for (int i = 0; i < 60; ++i) rows += json{{"who", who[i % 3]}, {"n", i}}.dump() + "\n";
    write_text(place / "rows.jsonl", rows);
    write_text(place / "t.txt", "{who} sees\n");
  }
  Arguments asking(const std::string& output, Arguments more = {}) const {
    Arguments all = {"--model",          path("run"), "--template", path("t.txt"), "--input",
                     path("rows.jsonl"), "-n",        "12",         "--seed",      "4"};
    if (!output.empty()) all.insert(all.end(), {"--output", path(output)});
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  RunResult ask(const std::string& output, const Arguments& more = {}) const {
    return run_program("generate", asking(output, more));
  }
  RunResult generate(Arguments arguments, const std::string& input = "") const {
    arguments.insert(arguments.begin(), {"--model", path("run")});
    return run_program("generate", arguments, input);
  }
  /// A conversation with these lines typed at a terminal, whose answers go elsewhere.
  RunResult converse(Arguments arguments, const std::string& lines) const {
    arguments.insert(arguments.begin(),
                     {test::program_path("generate").string(), "--model", path("run"), "--chat"});
    std::vector<char*> list;
    for (std::string& argument : arguments) list.push_back(argument.data());
    list.push_back(nullptr);
    const std::string out = path("out"), err = path("err");
    int terminal = -1;
    const pid_t child = forkpty(&terminal, nullptr, nullptr, nullptr);
    if (child == 0) {
      const bool opened = std::freopen(out.c_str(), "w", stdout) && std::freopen(err.c_str(), "w", stderr);
      if (opened) execv(list[0], list.data());
      _exit(127);
    }
    const std::string typed = lines + "\x04";
    EXPECT_EQ(write(terminal, typed.data(), typed.size()), static_cast<ssize_t>(typed.size()));
    char echoed[4096];
    while (read(terminal, echoed, sizeof echoed) > 0) {
    }
    int status = 0;
    waitpid(child, &status, 0);
    close(terminal);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_text(out), read_text(err)};
  }
  void chat_template() const {
    write_text(place / "run/model/chat_template.jinja",
               "{% for m in messages %}{{ m.role[0] }} {{ m.content }}\n{% endfor %}a ");
  }
};

TEST_F(Prompting, ATableIsAnsweredRowByRow) {
  const RunResult r = ask("a.jsonl", {"--num-samples", "2"});
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.out, "");
  EXPECT_SAYS(r.err, "60 rows answered");
  const auto rows = json_rows(read_text(place / "a.jsonl"));
  ASSERT_EQ(rows.size(), 120u);
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i]["index"], i / 2);
    EXPECT_EQ(rows[i]["n"], i / 2);
    EXPECT_EQ(rows[i]["sample"], i % 2);
    EXPECT_EQ(rows[i]["prompt"], rows[i]["who"].get<std::string>() + " sees");
  }
  // Without an output the rows come on stdout; the text is that of the prompt alone.
  const RunResult out = ask("", {"--num-samples", "2"});
  EXPECT_EQ(out.out, read_text(place / "a.jsonl"));
  const RunResult alone = generate({"the cat sees", "-n", "12", "--seed", "4"});
  EXPECT_EQ(alone.out, rows[0]["response"].get<std::string>() + "\n");
}

/// Killed at some moment, then started again: the same bytes as in one go.
TEST_F(Prompting, AKilledRunGoesOn) {
  ASSERT_EQ(ask("whole.jsonl", {"--num-samples", "2"}).code, 0);
  const std::string whole = read_text(place / "whole.jsonl");
  for (const int64_t bytes : {1, 3000, 9000}) {
    const std::string name = "killed" + std::to_string(bytes) + ".jsonl";
    const std::string binary = test::program_path("generate").string();
    Arguments arguments = asking(name, {"--num-samples", "2", "--batch-size", "1", "--quiet"});
    std::vector<char*> argv = {const_cast<char*>(binary.c_str())};
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    const pid_t child = fork();
    if (child == 0) {
      execv(binary.c_str(), argv.data());
      _exit(127);
    }
    std::error_code none;
    for (int i = 0; i < 20000; ++i) {
      const auto size = fs::file_size(place / name, none);
      if (!none && static_cast<int64_t>(size) >= bytes) break;
      usleep(500);
    }
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    // A row torn in the middle, too.
    const std::string torn = read_text(place / name);
    write_text(place / name, torn.substr(0, torn.size() - std::min<size_t>(torn.size() / 2, 37)));
    const RunResult r = ask(name, {"--num-samples", "2"});
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(read_text(place / name), whole);
    if (bytes > 1) {
      EXPECT_SAYS(r.err, "goes on behind row");
    }
  }
  const RunResult again = ask("whole.jsonl", {"--num-samples", "2"});  // nothing left to do
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(read_text(place / "whole.jsonl"), whole);
}

TEST_F(Prompting, OtherSettingsOrRowsAreRefused) {
  ASSERT_EQ(ask("a.jsonl").code, 0);
  const std::string before = read_text(place / "a.jsonl");
  const RunResult warmer = ask("a.jsonl", {"--temp", "1.5"});
  EXPECT_EQ(warmer.code, 2);
  EXPECT_SAYS(warmer.err, "temperature: was 0.8, is 1.5");
  write_text(place / "t.txt", "{who} likes\n");
  EXPECT_SAYS(ask("a.jsonl").err, "template");
  write_text(place / "t.txt", "{who} sees\n");
  std::string rows = read_text(place / "rows.jsonl");
  write_text(place / "rows.jsonl", rows + "{\"who\": \"a dog\", \"n\": 60}\n");
  EXPECT_EQ(ask("a.jsonl").code, 0);  // a longer table is only gone on with
  EXPECT_EQ(json_rows(read_text(place / "a.jsonl")).size(), 61u);
  rows.replace(rows.find("the cat"), 7, "the hen");
  write_text(place / "rows.jsonl", rows);
  const RunResult other = ask("a.jsonl");
  EXPECT_EQ(other.code, 2);
  EXPECT_SAYS(other.err, "another who");
  EXPECT_EQ(ask("a.jsonl", {"--overwrite"}).code, 0);
  EXPECT_EQ(json_rows(read_text(place / "a.jsonl")).size(), 60u);
}

TEST_F(Prompting, CsvInAndOut) {
  write_text(place / "rows.csv", "who,response,note\nthe cat,x,\"a, \"\"b\"\"\nc\"\na dog,y,\n");
  const Arguments arguments = {"--template",  path("t.txt"), "--input", path("rows.csv"), "--output",
                               path("a.csv"), "-n",          "12",      "--seed",         "4"};
  const RunResult r = generate(arguments);
  ASSERT_EQ(r.code, 0) << r.err;
  const std::string text = read_text(place / "a.csv");
  EXPECT_EQ(text.substr(0, text.find('\n')),
            "who,input_response,note,index,sample,prompt,response,finish_reason,error");
  EXPECT_SAYS(text, "the cat,x,\"a, \"\"b\"\"\nc\",0,0,the cat sees,");
  write_text(place / "a.csv", text.substr(0, text.size() - 10));
  EXPECT_EQ(generate(arguments).code, 0);
  EXPECT_EQ(read_text(place / "a.csv"), text);
  // Its own output is a table again.
  const RunResult next = generate({"--template", path("t.txt"), "--input", path("a.csv"), "-n", "3"});
  ASSERT_EQ(next.code, 0) << next.err;
  EXPECT_EQ(json_rows(next.out)[1]["input_index"], "1");
}

TEST_F(Prompting, ARowThatCannotBeAskedStopsOrIsSkipped) {
  write_text(place / "rows.jsonl", "{\"who\": \"the cat\"}\n{\"whom\": \"x\"}\n{\"who\": \"" +
                                       std::string(70, 'a') + "\"}\n{\"who\": \"a dog\"}\n");
  const RunResult stopped = ask("a.jsonl");
  EXPECT_EQ(stopped.code, 1);
  EXPECT_SAYS(stopped.err, "rows.jsonl: row 2");
  EXPECT_EQ(json_rows(read_text(place / "a.jsonl")).size(), 1u);
  const std::string rows_before = read_text(place / "rows.jsonl");
  write_text(place / "rows.jsonl", "{\"whom\": \"x\"}\n");
  EXPECT_EQ(ask("none.jsonl").code, 1);
  EXPECT_FALSE(fs::exists(place / "none.jsonl") || fs::exists(place / "none.jsonl.run.json"));
  write_text(place / "rows.jsonl", rows_before);
  const RunResult skipped = ask("a.jsonl", {"--on-error", "skip"});
  EXPECT_EQ(skipped.code, 0) << skipped.err;
  EXPECT_SAYS(skipped.err, "2 rows have an error");
  const auto rows = json_rows(read_text(place / "a.jsonl"));
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[1]["finish_reason"], "error");
  EXPECT_SAYS(rows[1]["error"].get<std::string>(), "{who}");
  EXPECT_SAYS(rows[2]["error"].get<std::string>(), "context of 64");
  EXPECT_TRUE(rows[3]["error"].is_null());
  EXPECT_EQ(rows[3]["index"], 3);
  EXPECT_EQ(ask("a.jsonl", {"--on-error", "skip"}).code, 0);
  EXPECT_EQ(json_rows(read_text(place / "a.jsonl")).size(), 4u);
}

TEST_F(Prompting, AnswersAreWrittenDown) {
  ASSERT_EQ(ask("a.jsonl", {"--record", path("r.db")}).code, 0);
  ASSERT_EQ(ask("a.jsonl", {"--record", path("r.db")}).code, 0);  // nothing is left to ask
  ASSERT_EQ(generate({"the cat", "-n", "3", "--record", path("r.db")}).code, 0);
  ASSERT_EQ(generate({"-n", "3", "--record", path("r.db")}, "my hen\na dog\n").code, 0);
  const RunResult r = run_program("llmtool", {"records", "export", path("r.db"), "--to", "jsonl"});
  ASSERT_EQ(r.code, 0) << r.err;
  const auto rows = json_rows(r.out), answers = json_rows(read_text(place / "a.jsonl"));
  ASSERT_EQ(rows.size(), 63u);
  for (size_t i = 0; i < 60; ++i) {
    EXPECT_EQ(rows[i]["response"], answers[i]["response"]);
    EXPECT_EQ(rows[i]["prompt"], answers[i]["prompt"]);
    EXPECT_EQ(rows[i]["input"], (json{{"who", answers[i]["who"]}, {"n", i}}));
  }
  EXPECT_EQ(rows[60]["input"], "the cat");
  EXPECT_EQ(rows[61]["input"], "my hen");
  EXPECT_EQ(rows[62]["input"], "a dog");
}

TEST_F(Prompting, FinishedPromptsAreShown) {
  write_text(place / "shots.jsonl",
             "{\"who\": \"a cat\", \"answer\": \"fish.\"}\n{\"who\": \"my hen\", \"answer\": \"corn.\"}\n");
  const Arguments base = {
      "--template", path("t.txt"),      "--shots", path("shots.jsonl"), "--num-shots",
      "1",          "--shot-selection", "bm25",    "--input",           path("rows.jsonl")};
  Arguments dry = base;
  dry.push_back("--dry-run");
  const RunResult r = generate(dry);
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.out.substr(0, r.out.find("sees\na") + 5),
            "a cat sees fish.\n\nthe cat sees\n");  // the second word is the same
  Arguments shown = base;
  shown.insert(shown.end(), {"--show-prompt", "-n", "1"});
  const RunResult both = generate(shown);
  EXPECT_EQ(both.code, 0);
  EXPECT_EQ(both.err, r.out);
  EXPECT_EQ(json_rows(both.out).size(), 60u);
}

TEST_F(Prompting, AConversationLineByLine) {
  const RunResult none = converse({}, "x\n");
  EXPECT_EQ(none.code, 2);
  EXPECT_SAYS(none.err, "chat template");
  chat_template();
  const Arguments asked = {"--system", "so", "-n", "4", "--temp", "0", "--ignore-eos"};
  Arguments chat = asked;
  chat.insert(chat.end(), {"--json", "--record", path("r.db")});
  const std::string saved = path("saved.jsonl");
  const RunResult r = converse(chat, "a cat\nmy dog\n/save " + saved + "\n/reset\na cat\n/exit\nnever\n");
  ASSERT_EQ(r.code, 0) << r.err;
  const auto rows = json_rows(r.out);
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0]["prompt"], "s so\nu a cat\na ");
  const std::string first = rows[0]["text"];
  EXPECT_EQ(rows[1]["prompt"], "s so\nu a cat\na " + first + "\nu my dog\na ");
  EXPECT_EQ(rows[2]["prompt"], rows[0]["prompt"]);
  EXPECT_EQ(rows[2]["text"], first);
  const json written = json_rows(read_text(saved))[0];
  ASSERT_EQ(written["messages"].size(), 5u);
  EXPECT_EQ(written["messages"][2]["content"], first);
  const RunResult records = run_program("llmtool", {"records", "export", path("r.db")});
  const json second = json_rows(records.out)[1];
  EXPECT_EQ(second["input"]["messages"].size(), 4u) << records.out;
  EXPECT_EQ(second["template"], "{messages}");
  // Plain, and a prompt that is asked alone.
  EXPECT_EQ(converse(asked, "a cat\n").out, first + "\n");
  const RunResult alone =
      generate({"--chat", "--system", "so", "-n", "4", "--temp", "0", "--ignore-eos", "a cat"});
  EXPECT_EQ(alone.out, first + "\n");
  // Lines from a pipe are prompts of their own.
  const RunResult piped = generate(
      {"--chat", "--system", "so", "-n", "4", "--temp", "0", "--ignore-eos", "--num-samples", "2", "--json"},
      "a cat\nmy dog\n");
  const auto separate = json_rows(piped.out);
  ASSERT_EQ(separate.size(), 4u) << piped.err;
  EXPECT_EQ(separate[1]["text"], first);
  EXPECT_EQ(separate[2]["prompt"], "s so\nu my dog\na ");
}

TEST_F(Prompting, AnEarlierTurnGivesWay) {
  chat_template();
  const RunResult r = converse({"-n", "20", "--temp", "0", "--ignore-eos", "--json"},
                               "the cat sees fish\nthe cat sees fish\nthe cat sees fish\n");
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_SAYS(r.err, "left out");
  const auto rows = json_rows(r.out);
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[2]["prompt"], rows[0]["prompt"]);
}

/// What a program on a pseudo-terminal shows until `wanted` does, or thirty seconds are over.
std::string shown_until(int terminal, const std::string& wanted) {
  std::string shown;
  for (int i = 0; i < 300 && shown.find(wanted) == std::string::npos; ++i) {
    pollfd in{terminal, POLLIN, 0};
    if (poll(&in, 1, 100) != 1) continue;
    char buffer[4096];
    const ssize_t n = read(terminal, buffer, sizeof buffer);
    if (n <= 0) break;
    shown.append(buffer, static_cast<size_t>(n));
  }
  return shown;
}

TEST_F(Prompting, OnATerminalControlCStopsTheAnswerOnly) {
  chat_template();
  json longer = json::parse(read_text(place / "run/model/config.json"));
  longer["max_position_embeddings"] = 1 << 16;  // an answer of many seconds
  write_text(place / "run/model/config.json", longer.dump());
  const std::string binary = test::program_path("generate").string(), model = path("run"), db = path("r.db"),
                    saved = "/save " + path("saved.jsonl") + "\n";
  int terminal = -1;
  const pid_t child = forkpty(&terminal, nullptr, nullptr, nullptr);
  if (child == 0) {
    setenv("TERM", "dumb", 1);
    setenv("LC_ALL", "C", 1);
    execl(binary.c_str(), binary.c_str(), "--model", model.c_str(), "--chat", "-n", "60000", "--ignore-eos",
          "--record", db.c_str(), static_cast<char*>(nullptr));
    _exit(127);
  }
  ASSERT_GT(child, 0);
  const std::string greeting = shown_until(terminal, "> ");
  EXPECT_SAYS(greeting, "> ");
  // At the prompt it clears the line, however often.
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(write(terminal, "lost\x03", 5), 5);
    EXPECT_SAYS(shown_until(terminal, "leaves.\r\n> "), "/exit or ctrl-D");
  }
  ASSERT_EQ(write(terminal, "/help\n", 6), 6);
  EXPECT_SAYS(shown_until(terminal, "clears the line.\r\n> "), "/reset");
  ASSERT_EQ(write(terminal, "gr\u00fcn\n", 6), 6);  // whatever the locale
  shown_until(terminal, "n\r\n");
  EXPECT_NE(shown_until(terminal, " "), "");  // the answer has begun
  ASSERT_EQ(write(terminal, "\x03", 1), 1);
  EXPECT_SAYS(shown_until(terminal, "> "), "> ");
  ASSERT_EQ(write(terminal, saved.data(), saved.size()), static_cast<ssize_t>(saved.size()));
  shown_until(terminal, "Saved to");
  ASSERT_EQ(write(terminal, "/exit\n", 6), 6);
  shown_until(terminal, "never shown");
  int status = 0;
  waitpid(child, &status, 0);
  close(terminal);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  const json messages = json_rows(read_text(place / "saved.jsonl")).at(0)["messages"];
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_EQ(messages[0]["content"], "gr\u00fcn");
  const auto records = json_rows(run_program("llmtool", {"records", "export", db}).out);
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0]["finish_reason"], "stopped");
  EXPECT_EQ(records[0]["response"], messages[1]["content"]);
}

TEST_F(Prompting, SamplersAreSaidAndSet) {
  const RunResult r =
      generate({"a", "-n", "2", "--verbose", "--top-k", "5", "--samplers", "top_k, temperature", "--bad-word",
                "cat", "--logit-bias", "3=-2.5", "--logit-bias", "t=false"});
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_SAYS(r.err, "samplers: logit_bias of 2 tokens, bad_words of 1 texts");
  EXPECT_SAYS(r.err, "top_k 5, temperature 0.8");
  const std::pair<Arguments, const char*> mistakes[] = {
      {{"--samplers", "top_k,topp"}, "topp"},
      {{"--samplers", "temperature", "--min-p", "0.1"}, "min_p"},
      {{"--logit-bias", "the cat=1"}, "one token"},
      {{"--logit-bias", "x"}, "TOKEN=NUMBER"},
      {{"--logit-bias", "99999=1"}, "99999"},
      {{"--mirostat", "1"}, "0 or 2"},
      {{"--mirostat-tau", "4"}, "mirostat_tau: means nothing without --mirostat 2"},
      {{"--xtc-threshold", "0.2"}, "without --xtc-probability"},
      {{"--dry-sequence-breaker", "."}, "without --dry-multiplier"},
      {{"--dynatemp-exponent", "2"}, "without --dynatemp-range"},
      {{"--temperature", "nan"}, "found nan"},
      {{"--bad-word", ""}, "bad_words"},
      {{"--template", "none.txt"}, "none.txt"},
      {{"--input-format", "csv"}, "--input"},
      {{"--output", "x.jsonl"}, "--input"}};
  for (const auto& [arguments, said] : mistakes) {
    Arguments all = arguments;
    all.emplace_back("a");
    const RunResult wrong = generate(all);
    EXPECT_EQ(wrong.code, 2) << said << wrong.err;
    EXPECT_SAYS(wrong.err, said);
  }
  // What is ruled out never comes.
  const RunResult without =
      generate({"a", "-n", "200", "--temp", "3", "--logit-bias", "t=false", "--ignore-eos"});
  EXPECT_EQ(without.out.find('t'), std::string::npos);
  // However it is spelt, and where the prompt has begun it.
  const RunResult unspelt = generate({"th", "-n", "300", "--temp", "2", "--bad-word", "the", "--bad-word",
                                      "a ", "--ignore-eos", "--num-samples", "4", "--echo"});
  ASSERT_EQ(unspelt.code, 0) << unspelt.err;
  for (const char* bad : {"the", "a "}) EXPECT_EQ(unspelt.out.find(bad), std::string::npos) << unspelt.out;
}

}  // namespace
}  // namespace llmtool
