// What all commands share: help, version, exit codes, config reading, what happens to stdout.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "llmtool/core/version.h"
#include "support.h"

namespace llmtool {
namespace {

using test::run_program;
using test::RunResult;
using Arguments = std::vector<std::string>;

#define EXPECT_SAYS(message, part) EXPECT_NE((message).find(part), std::string::npos) << (message)

/// Each command both ways: as its own program and under llmtool.
std::vector<RunResult> run_both(const std::string& command, const Arguments& arguments) {
  Arguments under = {command};
  under.insert(under.end(), arguments.begin(), arguments.end());
  return {run_program(command, arguments), run_program("llmtool", under)};
}

const char* const kCommands[] = {"tokenize", "pretrain", "finetune", "generate"};

TEST(Command, TellsItsVersion) {
  const std::string expected = std::string("llmtool ") + version() + "\n";
  EXPECT_EQ(run_program("llmtool", {"--version"}).out, expected);
  for (const char* command : kCommands) {
    for (const RunResult& r : run_both(command, {"--version"})) {
      EXPECT_EQ(r.code, 0);
      EXPECT_EQ(r.out, expected);
    }
  }
}

void expect_screen(const RunResult& r) {
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.err, "");
  const auto lines = std::count(r.out.begin(), r.out.end(), '\n');
  EXPECT_GE(lines, 5) << r.out;
  EXPECT_LE(lines, 40) << r.out;
}

TEST(Command, HelpFitsAScreenPerTopic) {
  expect_screen(run_program("llmtool", {"--help"}));
  for (const char* command : kCommands) {
    for (const RunResult& r : run_both(command, {"--help"})) expect_screen(r);
  }
  for (const char* sub : {"train", "encode", "decode", "inspect"})
    expect_screen(run_program("tokenize", {sub, "--help"}));
  for (const char* command : {"tokenize", "pretrain", "generate"}) {
    for (const RunResult& r : run_both(command, {"--help-config"})) expect_screen(r);
  }
  for (const char* topic : {"sampling", "prompts", "forms", "search", "speed"}) {
    for (const RunResult& r : run_both("generate", {"--help-topic", topic})) expect_screen(r);
  }
  const RunResult some = run_program("generate", {"--help-config", "dry_"});
  EXPECT_EQ(std::count(some.out.begin(), some.out.end(), '\n'), 5) << some.out;
  EXPECT_SAYS(run_program("generate", {"--help-config", "dyr_base"}).err, "did you mean dry_base");
  EXPECT_SAYS(run_program("generate", {"--help-topic", "speeds"}).err, "expected one of prompts, speed");
  for (const char* section : {"model", "tokenizer", "data", "training", "evaluation", "sample"}) {
    expect_screen(run_program("pretrain", {"--help-config", section}));
  }
}

TEST(Command, HelpOfAnUnknownSectionNamesTheNearest) {
  const RunResult r = run_program("pretrain", {"--help-config", "trainin"});
  EXPECT_EQ(r.code, 2);
  EXPECT_SAYS(r.err, "did you mean training?");
}

TEST(Command, CommonFlagsStandOnEveryCommand) {
  const std::pair<const char*, Arguments> commands[] = {
      {"pretrain", {"--help"}},           {"generate", {"--help"}},
      {"tokenize", {"train", "--help"}},  {"tokenize", {"encode", "--help"}},
      {"tokenize", {"decode", "--help"}}, {"tokenize", {"inspect", "--help"}}};
  for (const auto& [program, arguments] : commands) {
    const RunResult r = run_program(program, arguments);
    for (const char* flag :
         {"--config", "--set", "--threads", "--seed", "--json", "--quiet", "--print-config"}) {
      EXPECT_SAYS(r.out, flag);
    }
  }
}

struct Misuse {
  Arguments arguments;  // of llmtool
  std::string said;
};

TEST(Command, WrongUsageIsToldOnStderrWithCode2) {
  const Misuse cases[] = {
      {{}, "subcommand is required"},
      {{"pretrian"}, "pretrian: unknown command, did you mean pretrain?"},
      {{"zzzzzz"}, "zzzzzz: unknown command"},
      {{"tokenize", "trian"}, "trian: unknown command, did you mean train?"},
      {{"pretrain", "--dat=x"}, "--dat: unknown flag, did you mean --data?"},
      {{"pretrain", "--zzzzzz"}, "--zzzzzz: unknown flag"},
      {{"tokenize", "encode", "--modle", "x"}, "--modle: unknown flag, did you mean --model?"},
      {{"pretrain", "extra"}, "extra: unexpected argument"},
      {{"pretrain", "--threads", "x"}, "--threads: Value x not in range 1 to 4096"},
      {{"pretrain", "--threads", "0"}, "--threads"},
      {{"pretrain", "--threads", "99999999999"}, "--threads"},
      {{"pretrain", "--seed", "-1"}, "--seed"},
      {{"pretrain", "--seed", "99999999999999999999"}, "--seed"},
      {{"pretrain", "--seed", "9007199254740993"}, "--seed"},
      {{"pretrain", "--seed"}, "--seed"},
      {{"pretrain"}, "--output"},
      {{"schema"}, "NAME is required"},
      {{"schema", "nosuch"}, "nosuch"},
      {{"generate"}, "--model"},
      {{"tokenize", "encode"}, "--model is required"}};
  for (const Misuse& c : cases) {
    const RunResult r = run_program("llmtool", c.arguments);
    EXPECT_EQ(r.code, 2) << c.said;
    EXPECT_EQ(r.out, "");
    EXPECT_TRUE(r.err.starts_with("error: ")) << r.err;
    EXPECT_SAYS(r.err, c.said);
  }
}

TEST(Command, ConfigMistakesNameThePath) {
  test::TempFolder folder;
  int files = 0;
  const auto config = [&](const std::string& text) {
    const auto file = folder / (std::to_string(++files) + "c.json");
    test::write_text(file, text);
    return Arguments{"--config", file, "--print-config"};
  };
  const auto set = [](const std::string& setting) { return Arguments{"--set", setting, "--print-config"}; };
  const std::pair<Arguments, std::string> cases[] = {
      {config("{"), "c.json: parse error at line 1"},
      {config("[1]"), "c.json: expected an object, found [1]"},
      {config(R"({"training": {"seed": 1, "seed": 2}})"), "stands twice"},
      {config(R"({"training": {"seed": 9007199254740993}})"), "training.seed: expected an integer"},
      {config(R"({"trainin": {}})"), "trainin: unknown key, did you mean training?"},
      {{"--config", folder / "none.json"}, "none.json: cannot be opened"},
      {{"--config", folder.path()}, "Is a directory"},
      {set("training.max_step=3"), "training.max_step: unknown key, did you mean max_steps?"},
      {set("training.max_steps=ten"), "training.max_steps: expected an integer >= 1, found \"ten\""},
      {set("training.lr_scheduler_type=cosin"), "did you mean cosine?"},
      {set("data.field=\xff"), "expected UTF-8"},
      {set("training"), "expected key=value"}};
  for (const auto& [arguments, said] : cases) {
    const RunResult r = run_program("pretrain", arguments);
    EXPECT_EQ(r.code, 2) << r.err;
    EXPECT_EQ(r.out, "");
    EXPECT_SAYS(r.err, said);
  }
}

TEST(Command, FlagsLieOverTheFileOverTheDefaults) {
  test::TempFolder folder;
  test::write_text(folder / "c.json",
                   R"({"$schema": "x.json", "training": {"seed": 5, "batch_size": 7, "max_steps": 9}})");
  const RunResult r = run_program(
      "pretrain", {"--config", folder / "c.json", "--set", "training.batch_size=8", "--set",
                   "training.max_steps=1", "--set", "training.max_steps=2", "--seed", "6", "--print-config"});
  ASSERT_EQ(r.code, 0) << r.err;
  const auto training = nlohmann::json::parse(r.out)["training"];
  EXPECT_EQ(training["seed"], 6);
  EXPECT_EQ(training["batch_size"], 8);
  EXPECT_EQ(training["max_steps"], 2);  // the last one
  EXPECT_EQ(training["sequence_length"], 256);
}

TEST(Command, ThePrintedConfigGivesItselfAgain) {
  test::TempFolder folder;
  const std::pair<const char*, Arguments> commands[] = {{"pretrain", {}},
                                                        {"generate", {}},
                                                        {"tokenize", {"train"}},
                                                        {"tokenize", {"encode", "--model", "none"}}};
  for (const auto& [program, start] : commands) {
    Arguments arguments = start;
    arguments.push_back("--print-config");
    const RunResult first = run_program(program, arguments);
    ASSERT_EQ(first.code, 0) << first.err;
    test::write_text(folder / "c.json", first.out);
    arguments.insert(arguments.end(), {"--config", folder / "c.json"});
    const RunResult second = run_program(program, arguments);
    EXPECT_EQ(second.code, 0) << second.err;
    EXPECT_EQ(second.out, first.out);
  }
}

TEST(Command, SchemasDescribeThePrintedConfigs) {
  const std::pair<const char*, Arguments> commands[] = {{"pretrain", {"--print-config"}},
                                                        {"generate", {"--print-config"}},
                                                        {"tokenize", {"train", "--print-config"}}};
  for (const auto& [name, arguments] : commands) {
    const RunResult r = run_program("llmtool", {"schema", name});
    ASSERT_EQ(r.code, 0) << r.err;
    const auto schema = nlohmann::json::parse(r.out);
    EXPECT_EQ(schema["title"], std::string("llmtool ") + name);
    EXPECT_EQ(schema["additionalProperties"], false);
    const auto config = nlohmann::json::parse(run_program(name, arguments).out);
    for (const auto& [key, value] : config.items()) {
      ASSERT_TRUE(schema["properties"].contains(key)) << key;
      if (!value.is_object()) continue;
      for (const auto& [inner, unused] : value.items()) {
        EXPECT_TRUE(schema["properties"][key]["properties"].contains(inner)) << key << "." << inner;
      }
    }
  }
}

/// The exit code of a program whose stdout is the file `out`, or a pipe that nobody reads where `out` is
/// null.
int code_with_stdout(const std::string& program, const Arguments& arguments, const char* out) {
  int ends[2] = {-1, -1};
  if (out)
    ends[1] = open(out, O_WRONLY);
  else if (pipe(ends) == 0)
    close(ends[0]);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], 1);
    dup2(open("/dev/null", O_WRONLY), 2);
    const std::string binary = test::program_path(program).string();
    std::vector<char*> argv{const_cast<char*>(binary.c_str())};
    for (const auto& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
    argv.push_back(nullptr);
    execv(binary.c_str(), argv.data());
    _exit(127);
  }
  close(ends[1]);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST(Command, AResultThatCannotBeWrittenIsAFailure) {
  const std::pair<const char*, Arguments> commands[] = {{"llmtool", {"schema", "pretrain"}},
                                                        {"llmtool", {"--version"}},
                                                        {"pretrain", {"--help"}},
                                                        {"pretrain", {"--print-config"}},
                                                        {"generate", {"--help-config"}}};
  for (const auto& [program, arguments] : commands) {
    EXPECT_EQ(code_with_stdout(program, arguments, "/dev/full"), 1) << program;
    EXPECT_EQ(code_with_stdout(program, arguments, nullptr), 0) << program << ": a reader may leave";
    EXPECT_EQ(code_with_stdout(program, arguments, "/dev/null"), 0) << program;
  }
}

}  // namespace
}  // namespace llmtool
