// generate: from prompts to answers.

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

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

/// A model that has learnt the small language.
class Generate : public test::RunTest {
 protected:
  void SetUp() override {
    RunTest::SetUp();
    ASSERT_NO_FATAL_FAILURE(train(150));
  }
  RunResult generate(Arguments arguments, const std::string& input = "") const {
    arguments.insert(arguments.begin(), {"--model", path("run")});
    return run_program("generate", arguments, input);
  }
  /// Rows of --json without what the clock says.
  std::vector<json> rows(Arguments arguments, const std::string& input = "") const {
    arguments.push_back("--json");
    const RunResult r = generate(arguments, input);
    EXPECT_EQ(r.code, 0) << r.err;
    auto list = json_rows(r.out);
    for (json& row : list) {
      EXPECT_TRUE(row.contains("timings"));
      row.erase("timings");
    }
    return list;
  }
};

TEST_F(Generate, AModelThatHasLearntTheLanguageWritesIt) {
  const RunResult r = generate({"the cat", "--temperature", "0", "-n", "40"});
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.err, "");
  std::istringstream lines("the cat" + r.out);
  std::string line;
  ASSERT_TRUE(std::getline(lines, line));
  bool known = false;
  for (const char* verb : {"sees", "likes", "eats"}) {
    for (const char* object : {"fish.", "corn.", "grass."}) {
      known = known || line == std::string("the cat ") + verb + " " + object;
    }
  }
  EXPECT_TRUE(known) << line;
}

TEST_F(Generate, PromptsComeFromEverywhereAndAnswersInOrder) {
  const std::vector<std::string> prompts = {"the cat", "a dog", "", "my hen likes"};
  Arguments given = {"-n", "5"};
  given.insert(given.end(), prompts.begin(), prompts.end());
  const auto expected = rows(given);
  ASSERT_EQ(expected.size(), prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(expected[i]["index"], i);
    EXPECT_EQ(expected[i]["prompt"], prompts[i]);
  }
  EXPECT_EQ(expected[2]["prompt_ids"], json::array({1}));  // no BOS: what stands between documents
  std::string text, with_nul, of_json;
  for (const std::string& prompt : prompts) {
    text += prompt + "\n";
    with_nul += prompt + std::string(1, '\0');
    of_json += json{{"q", prompt}}.dump() + "\n";
  }
  EXPECT_EQ(rows({"-n", "5"}, text), expected);
  EXPECT_EQ(rows({"-n", "5", "-0"}, with_nul), expected);
  EXPECT_EQ(rows({"-n", "5", "--input-format", "jsonl", "--field", "q"}, of_json), expected);
  write_text(place / "prompts.txt", text);
  EXPECT_EQ(rows({"-n", "5", "--prompt-file", path("prompts.txt")}), expected);
}

TEST_F(Generate, TheSameSeedGivesTheSameAnswersInAnyCompany) {
  std::string input;
  for (const char* prompt : {"the cat", "a dog eats", "my", "the", "a dog", "my hen", "the cat sees fish."})
    input += std::string(prompt) + "\n";
  const Arguments base = {"-n", "12", "--num-samples", "3", "--seed", "9", "--temperature", "1.5"};
  const auto expected = rows(base, input);
  ASSERT_EQ(expected.size(), 21u);
  for (const Arguments& more : {Arguments{"--batch-size", "1", "--threads", "1"},
                                {"--batch-size", "4", "--threads", "2"},
                                {"--batch-size", "32", "--threads", "5"}}) {
    Arguments arguments = base;
    arguments.insert(arguments.end(), more.begin(), more.end());
    EXPECT_EQ(rows(arguments, input), expected);
  }
  EXPECT_NE(expected[0]["text"], expected[1]["text"]);
  Arguments other = base;
  other[5] = "10";
  EXPECT_NE(rows(other, input), expected);
}

TEST_F(Generate, RowsSayWhatScriptsReadAndScoresAreConsistent) {
  const auto answered = rows({"the cat", "-n", "6", "--logprobs", "2", "--echo", "--ignore-eos"});
  ASSERT_EQ(answered.size(), 1u);
  const json& row = answered[0];
  EXPECT_EQ(row["prompt"], "the cat");
  EXPECT_EQ(row["finish_reason"], "length");
  EXPECT_EQ(row["prompt_ids"].size(), 7u);
  EXPECT_EQ(row["ids"].size(), 6u);
  EXPECT_EQ(row["text"].get<std::string>().size(), 6u);  // a character a token
  ASSERT_EQ(row["logprobs"].size(), 6u);
  ASSERT_EQ(row["top_logprobs"].size(), 6u);
  for (const json& top : row["top_logprobs"]) {
    ASSERT_EQ(top.size(), 2u);
    EXPECT_GE(top[0]["logprob"], top[1]["logprob"]);
  }
  ASSERT_EQ(row["prompt_logprobs"].size(), 7u);
  EXPECT_TRUE(row["prompt_logprobs"][0].is_null());
  // The answer, given as part of a prompt, has the same scores.
  json ids = row["prompt_ids"];
  ids.insert(ids.end(), row["ids"].begin(), row["ids"].end());
  const auto scored = rows({"--max-new-tokens", "0", "--echo", "--logprobs", "1", "--input-format", "jsonl"},
                           json{{"prompt_ids", ids}}.dump() + "\n");
  ASSERT_EQ(scored.size(), 1u);
  EXPECT_EQ(scored[0]["text"], "");
  EXPECT_TRUE(scored[0]["ids"].empty());
  EXPECT_EQ(scored[0]["prompt"], "the cat" + row["text"].get<std::string>());
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_NEAR(scored[0]["prompt_logprobs"][7 + i].get<double>(), row["logprobs"][i].get<double>(), 1e-5);
  }
}

TEST_F(Generate, WithoutATokenizerIdsAreEnough) {
  fs::remove(place / "run" / "model" / "tokenizer.model");
  fs::remove(place / "run" / "model" / "tokenizer.json");
  const auto answered =
      rows({"-n", "4", "--input-format", "jsonl", "--ignore-eos"}, "{\"prompt_ids\": [3, 4, 5]}\n");
  ASSERT_EQ(answered.size(), 1u);
  EXPECT_EQ(answered[0]["prompt_ids"], (json{3, 4, 5}));
  EXPECT_EQ(answered[0]["ids"].size(), 4u);
  const RunResult text = generate({"--json", "the cat"});
  EXPECT_EQ(text.code, 2);
  EXPECT_SAYS(text.err, "prompt_ids");
  const RunResult beyond = generate({"--json", "--input-format", "jsonl"}, "{\"prompt_ids\": [3, 4000]}\n");
  EXPECT_EQ(beyond.code, 1);
  EXPECT_SAYS(beyond.err, "4000");
}

TEST_F(Generate, AnswersEndWhereTheyAreTold) {
  const json whole = rows({"the cat", "-n", "40", "--temperature", "0"})[0];
  const std::string text = whole["text"];
  ASSERT_NE(text.find('.'), std::string::npos);
  const json stopped = rows({"the cat", "-n", "40", "--temperature", "0", "--stop", ".\n"})[0];
  EXPECT_EQ(stopped["finish_reason"], "stop");
  EXPECT_EQ(stopped["text"], text.substr(0, text.find('.')));
  const int64_t third = whole["ids"][2];
  const auto at = std::find(whole["ids"].begin(), whole["ids"].end(), third) - whole["ids"].begin();
  const json by_id =
      rows({"the cat", "-n", "40", "--temperature", "0", "--stop-id", std::to_string(third)})[0];
  EXPECT_EQ(by_id["finish_reason"], "stop");
  EXPECT_EQ(by_id["ids"].size(), static_cast<size_t>(at));
  // generation_config.json says it, as a number or as a list; config.json where that is silent.
  const fs::path file = place / "run" / "model" / "generation_config.json";
  for (const json& said : {json(third), json{0, third}}) {
    json generation = json::parse(read_text(file));
    generation["eos_token_id"] = said;
    write_text(file, generation.dump());
    EXPECT_EQ(rows({"the cat", "-n", "40", "--temperature", "0"})[0]["ids"], by_id["ids"]);
    EXPECT_EQ(rows({"the cat", "-n", "40", "--temperature", "0", "--ignore-eos"})[0]["ids"], whole["ids"]);
  }
  fs::remove(file);
  json model = json::parse(read_text(place / "run" / "model" / "config.json"));
  model["eos_token_id"] = third;
  write_text(place / "run" / "model" / "config.json", model.dump());
  EXPECT_EQ(rows({"the cat", "-n", "40", "--temperature", "0"})[0]["ids"], by_id["ids"]);
}

TEST_F(Generate, FlagsAndConfigSayTheSame) {
  write_text(place / "g.json",
             R"({"max_new_tokens": 7, "temperature": 1.2, "top_k": 5, "repetition_penalty": 1.3})");
  const auto by_config = rows({"the cat", "--config", path("g.json")});
  EXPECT_EQ(by_config[0]["ids"].size(), 7u);
  EXPECT_EQ(rows({"the cat", "-n", "7", "--temp", "1.2", "--top-k", "5", "--repeat-penalty", "1.3"}),
            by_config);
  EXPECT_EQ(rows({"the cat", "--config", path("g.json"), "--max-new-tokens", "3"})[0]["ids"].size(), 3u);
  const std::string likeliest = rows({"the cat", "--temperature", "0"})[0]["text"];
  for (const Arguments& only : {Arguments{"--top-k", "1"}, {"--top-p", "0"}, {"--min-p", "1"}}) {
    Arguments arguments = {"the cat", "--temperature", "1.7"};
    arguments.insert(arguments.end(), only.begin(), only.end());
    EXPECT_EQ(rows(arguments)[0]["text"], likeliest) << only[0];
  }
}

TEST_F(Generate, ALongPromptIsAnErrorOrLosesItsBeginning) {
  const std::string prompt(70, 'a');
  const RunResult refused = generate({prompt});
  EXPECT_EQ(refused.code, 1);
  EXPECT_SAYS(refused.err, "70");
  EXPECT_SAYS(refused.err, "64");
  EXPECT_SAYS(refused.err, "--truncate left");
  const json row = rows({prompt, "--truncate", "left", "-n", "10", "--ignore-eos"})[0];
  EXPECT_EQ(row["prompt_ids"].size(), 54u);
  EXPECT_EQ(row["ids"].size(), 10u);
  const json full = rows({prompt.substr(0, 60), "-n", "100", "--ignore-eos"})[0];
  EXPECT_EQ(full["finish_reason"], "length");
  EXPECT_EQ(full["ids"].size(), 5u);  // four fill the context, and one is chosen behind it
}

TEST_F(Generate, PlainAnswersStandOnLinesOfTheirOwn) {
  const auto expected = rows({"the cat", "-n", "5"});
  const std::string text = expected[0]["text"];
  EXPECT_EQ(generate({"-n", "5"}, "the cat\n").out, text + "\n");
  EXPECT_EQ(generate({"-n", "5", "--echo"}, "the cat\n").out, "the cat" + text + "\n");
  EXPECT_EQ(generate({}, "").out, "");
}

TEST_F(Generate, OpensAModelACheckpointOrARun) {
  const auto expected = rows({"a dog", "-n", "9"});
  for (const char* place_of : {"run/model", "run/checkpoints/step-150"}) {
    const RunResult r = run_program("generate", {"--model", path(place_of), "a dog", "-n", "9"});
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(r.out, expected[0]["text"].get<std::string>() + "\n");
  }
}

TEST_F(Generate, MistakesAreNamed) {
  struct Case {
    Arguments arguments;
    std::string input;
    int code;
    std::string said;
  };
  const Case cases[] = {
      {{"--input-format", "jsonl"}, "{\"text\": \"x\"}\n", 1, "row 1: prompt"},
      {{"--input-format", "jsonl"}, "{\"prompt\": \"a\"}\n{\"prompt\": 3}\n", 1, "row 2: prompt"},
      {{"--input-format", "jsonl"}, "{\"prompt_ids\": [1.5]}\n", 1, "row 1: prompt_ids"},
      {{"--prompt-file", path("none")}, "", 2, "none"},
      {{"--temperature", "-1", "x"}, "", 2, "temperature"},
      {{"--top-p", "1.5", "x"}, "", 2, "top_p"},
      {{"--stop", "", "x"}, "", 2, "stop"},
      {{"--set", "temprature=1", "x"}, "", 2, "did you mean temperature"}};
  for (const Case& c : cases) {
    const RunResult r = generate(c.arguments, c.input);
    EXPECT_EQ(r.code, c.code) << r.err;
    EXPECT_SAYS(r.err, c.said);
  }
  const RunResult nowhere = run_program("generate", {"--model", path("nowhere"), "x"});
  EXPECT_EQ(nowhere.code, 2);
  EXPECT_SAYS(nowhere.err, "nowhere");
  fs::resize_file(place / "run" / "model" / "model.safetensors", 1000);
  const RunResult torn = generate({"x"});
  EXPECT_EQ(torn.code, 1);
  EXPECT_SAYS(torn.err, "model.safetensors");
}

TEST_F(Generate, ABadPromptComesAfterTheAnswersToThoseBeforeIt) {
  const RunResult r =
      generate({"--json", "--input-format", "jsonl", "-n", "3"},
               "{\"prompt\": \"the cat\"}\n{\"prompt\": \"a dog\"}\n{\"prompt_ids\": [99999]}\n");
  EXPECT_EQ(r.code, 1);
  EXPECT_EQ(json_rows(r.out).size(), 2u);
  EXPECT_SAYS(r.err, "99999");
}

TEST_F(Generate, APromptThatFitsIsNotTruncated) {
  const json row = rows({"the cat sees", "--truncate", "left", "-n", "1000"})[0];
  EXPECT_EQ(row["prompt_ids"].size(), std::string("the cat sees").size());
}

TEST_F(Generate, ARunThatHasNotEndedAnswersFromItsCheckpoint) {
  fs::remove_all(place / "run/model");
  const RunResult r = generate({"the cat", "-n", "3"});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_SAYS(r.err, "checkpoints/step-150");
}

/// An answer to a prompt must not wait for the next prompt.
TEST_F(Generate, ALivePipeIsAnsweredLineByLine) {
  int in[2], out[2];
  ASSERT_EQ(pipe(in), 0);
  ASSERT_EQ(pipe(out), 0);
  const std::string binary = test::program_path("generate").string(), model = path("run");
  const pid_t child = fork();
  if (child == 0) {
    dup2(in[0], 0);
    dup2(out[1], 1);
    for (const int fd : {in[0], in[1], out[0], out[1]}) close(fd);
    execl(binary.c_str(), binary.c_str(), "--model", model.c_str(), "-n", "5", static_cast<char*>(nullptr));
    _exit(127);
  }
  close(in[0]);
  close(out[1]);
  for (int prompt = 0; prompt < 2; ++prompt) {
    ASSERT_EQ(write(in[1], "the cat\n", 8), 8);
    pollfd answer{out[0], POLLIN, 0};
    ASSERT_EQ(poll(&answer, 1, 20000), 1) << "no answer while the pipe is open";
    char buffer[256];
    ASSERT_GT(read(out[0], buffer, sizeof buffer), 0);
  }
  close(in[1]);
  int status = 0;
  waitpid(child, &status, 0);
  close(out[0]);
  EXPECT_EQ(status, 0);
}

TEST_F(Generate, ChoicesAreScoredAndTheLikeliestIsGiven) {
  const Arguments ask = {"the cat", "a dog", "--choices", " sees fish., is\\, well", "--choices", " likes"};
  const RunResult plain = generate(ask);
  ASSERT_EQ(plain.code, 0) << plain.err;
  const auto answered = rows(ask);
  ASSERT_EQ(answered.size(), 2u);
  for (const json& row : answered) {
    ASSERT_EQ(row["probabilities"].size(), 3u) << row;
    double total = 0;
    for (const auto& [choice, p] : row["probabilities"].items()) {
      total += p.get<double>();
      EXPECT_LE(p, row["probabilities"][row["choice"].get<std::string>()]);
      EXPECT_NEAR(std::exp(row["logprobs"][choice].get<double>() - row["logprobs"][" likes"].get<double>()),
                  p.get<double>() / row["probabilities"][" likes"].get<double>(), 1e-9);
    }
    EXPECT_NEAR(total, 1, 1e-9);
    EXPECT_TRUE(row["probabilities"].contains(" is, well"));
    EXPECT_EQ(row["tokens"].size(), 3u);
    EXPECT_EQ(row["finish_reason"], "stop");
  }
  EXPECT_EQ(plain.out.substr(0, plain.out.find('\t') + 1), answered[0]["choice"].get<std::string>() + "\t");
  for (const char* normalize : {"tokens", "bytes"}) {
    Arguments more = ask;
    more.insert(more.end(), {"--choices-normalize", normalize});
    EXPECT_NE(rows(more)[0]["probabilities"], answered[0]["probabilities"]);
    EXPECT_EQ(rows(more)[0]["logprobs"], answered[0]["logprobs"]);
  }
  for (const Arguments& wrong : {Arguments{"--choices", "a"},
                                 {"--choices", "a,a"},
                                 {"--choices", "a,"},
                                 {"--choices", "a,b", "--temperature", "1"},
                                 {"--choices-normalize", "bytes"}}) {
    Arguments all = wrong;
    all.insert(all.begin(), "the cat");
    EXPECT_EQ(generate(all).code, 2) << wrong[0];
  }
}

// The small language has no b.
TEST_F(Generate, AFormsDeadEndsAreNotEntered) {
  const RunResult r =
      generate({"the", "--regex", " (cob|cat|dogb?)", "--temperature", "2", "--num-samples", "20"});
  EXPECT_EQ(r.code, 0) << r.err;
  std::istringstream lines(r.out);
  for (std::string line; std::getline(lines, line);) EXPECT_TRUE(line == " cat" || line == " dog") << line;
  EXPECT_EQ(generate({"the", "--regex", " (cob|b)"}).code, 1);
}

TEST_F(Generate, WaysOfRunningGiveTheSameAnswers) {
  const std::string input = "the cat sees fish.\nthe cat sees fish.\nthe cat sees corn.\n";
  for (const char* temperature : {"0", "1.2"}) {
    const Arguments base = {"-n", "20", "--ignore-eos", "--temperature", temperature, "--seed", "4"};
    const auto expected = rows(base, input);
    for (const Arguments& more : {Arguments{"--speculative", "lookup"},
                                  {"--speculative", "lookup", "--draft-tokens", "3"},
                                  {"--speculative", path("run")},
                                  {"--prompt-cache", path("kv")},
                                  {"--prompt-cache", path("kv")}}) {
      Arguments arguments = base;
      arguments.insert(arguments.end(), more.begin(), more.end());
      EXPECT_EQ(rows(arguments, input), expected) << more[0] << more[1];
    }
  }
  const RunResult r = generate({"the cat", "--json", "--speculative", "lookup", "-n", "30", "--ignore-eos",
                                "--temperature", "0", "--kv-cache-type", "f16"});
  const json timings = json_rows(r.out)[0]["timings"];
  EXPECT_GE(timings["drafted"], timings["accepted"]);
  EXPECT_GT(timings["kv_cache_bytes"], 0);
  write_text(place / "kv", "something else");
  EXPECT_EQ(generate({"the cat", "--prompt-cache", path("kv")}).code, 1);
}

TEST_F(Generate, AnEmptyPromptCacheIsNoneYet) {
  write_text(place / "cache", "");
  const Arguments asked = {"--prompt-cache", path("cache"), "-n", "3", "the cat"};
  const RunResult first = generate(asked);
  EXPECT_EQ(first.code, 0) << first.err;
  EXPECT_GT(fs::file_size(place / "cache"), 0u);
  EXPECT_EQ(generate(asked).out, first.out);
}

TEST_F(Generate, BeamsAndTheBestOfSeveral) {
  const auto beams = rows({"the cat", "--num-beams", "4", "--num-samples", "3", "-n", "8"});
  ASSERT_EQ(beams.size(), 3u);
  EXPECT_GE(beams[0]["score"], beams[1]["score"]);
  EXPECT_GE(beams[1]["score"], beams[2]["score"]);
  EXPECT_NE(beams[0]["ids"], beams[1]["ids"]);
  const auto samples = rows({"the cat", "--num-samples", "5", "-n", "8", "--seed", "3"});
  const auto best = rows({"the cat", "--best-of", "5", "-n", "8", "--seed", "3"});
  ASSERT_EQ(best.size(), 1u);
  double most = -1e9;
  for (const json& row : samples) {
    double sum = 0;
    for (const json& logprob : row["logprobs"]) sum += logprob.get<double>();
    most = std::max(most, sum / static_cast<double>(row["logprobs"].size()));
  }
  EXPECT_NEAR(best[0]["score"], most, 1e-12);
  for (const Arguments& wrong : {Arguments{"--num-beams", "2", "--temperature", "1"},
                                 {"--num-beams", "2", "--num-samples", "3"},
                                 {"--length-penalty", "2"},
                                 {"--best-of", "2", "--num-samples", "2"},
                                 {"--num-beams", "2", "--speculative", "lookup"}}) {
    Arguments all = wrong;
    all.insert(all.begin(), "the cat");
    EXPECT_EQ(generate(all).code, 2) << wrong[0] << wrong[2];
  }
}

TEST_F(Generate, ALongerContextNeedsAScaling) {
  std::string prompt = "the cat";
  while (prompt.size() < 600) prompt += " sees fish. the cat";
  EXPECT_EQ(generate({prompt, "-n", "2"}).code, 1);
  const RunResult refused = generate({prompt, "-n", "2", "--context", "1000"});
  EXPECT_EQ(refused.code, 2);
  EXPECT_NE(refused.err.find("--rope-scaling"), std::string::npos) << refused.err;
  for (const char* scaling : {"linear", "dynamic", "yarn"}) {
    const RunResult r = generate({prompt, "-n", "2", "--context", "1000", "--rope-scaling", scaling});
    EXPECT_EQ(r.code, 0) << r.err;
  }
  EXPECT_EQ(generate({prompt, "--context", "1000", "--rope-scaling", "yarn", "--rope-factor", "2"}).code, 2);
  EXPECT_EQ(generate({"the cat", "--rope-factor", "2"}).code, 2);
  const RunResult chosen =
      generate({prompt, "--choices", "fish,dogs", "--context", "1000", "--rope-scaling", "yarn"});
  EXPECT_EQ(chosen.code, 0) << chosen.err;
  EXPECT_EQ(generate({"the cat sees fish", "--choices", " fish, dogs", "--context", "2"}).code, 1);
  EXPECT_EQ(generate({"the cat", "--choices", "a,\xff"}).code, 2);
  const auto shorter = rows({"the cat sees", "--context", "16", "-n", "100", "--ignore-eos"});
  EXPECT_EQ(shorter[0]["prompt_ids"].size() + shorter[0]["ids"].size(), 17u);  // the last needs no place
}

}  // namespace
}  // namespace llmtool
