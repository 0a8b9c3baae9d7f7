// pretrain: what a run leaves, and what it says when it cannot go on.

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>

#include "run_fixture.h"

namespace llmtool {
namespace {

using nlohmann::json;
using test::Arguments;
using test::read_text;
using test::run_program;
using test::RunResult;
using test::write_text;
namespace fs = std::filesystem;

class Pretrain : public test::RunTest {};

TEST_F(Pretrain, LeavesAModelMetricsCheckpointsAndAReport) {
  config["sample"]["prompts"] = {"the cat"};
  const RunResult r = pretrain("run");
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.out, "");
  for (const char* said :
       {"model: llama, ", "parameters", "training tokens", "12 steps of 96 tokens: 1.2K tokens",
        "memory: weights ", "activations", "time: about", "step 12: validation loss", "| the cat",
        "peak memory", "planned"}) {
    EXPECT_SAYS(r.err, said);
  }
  for (const char* file : {"model/config.json", "model/generation_config.json", "model/model.safetensors",
                           "model/tokenizer.json", "model/tokenizer.model", "model/tokenizer_config.json",
                           "run.json", "report.html", "checkpoints/step-12/trainer_state.json"}) {
    EXPECT_TRUE(fs::exists(place / "run" / file)) << file;
  }
  int64_t steps = 0, evaluations = 0;
  for (const json& row : test::json_rows(read_text(place / "run" / "metrics.jsonl"))) {
    if (row.contains("val_loss")) {
      ++evaluations;
      for (const char* key : {"step", "val_perplexity", "val_bits_per_byte"})
        EXPECT_TRUE(row.contains(key)) << key;
      EXPECT_NEAR(row["val_perplexity"].get<double>(), std::exp(row["val_loss"].get<double>()), 1e-9);
      // A character a token and a byte a character: bits per byte is the loss in bits.
      EXPECT_NEAR(row["val_bits_per_byte"].get<double>(), row["val_loss"].get<double>() / std::log(2.0),
                  1e-9);
      continue;
    }
    EXPECT_EQ(row["step"], ++steps);
    for (const char* key : {"loss", "learning_rate", "grad_norm", "tokens_per_second", "seconds"}) {
      EXPECT_TRUE(row[key].is_number()) << key;
    }
  }
  EXPECT_EQ(steps, 12);
  EXPECT_EQ(evaluations, 4);  // before the first step, then every 4
}

TEST_F(Pretrain, ARunHasTheSameBitsForAnyNumberOfThreads) {
  config["model"]["attention_dropout"] = 0.1;
  ASSERT_EQ(pretrain("one", {"--threads", "1"}).code, 0);
  for (const char* threads : {"2", "5"}) {
    ASSERT_EQ(pretrain(threads, {"--threads", threads}).code, 0);
    EXPECT_EQ(weights(threads), weights("one"));
    EXPECT_EQ(metrics(threads), metrics("one"));
  }
  ASSERT_EQ(pretrain("seed", {"--seed", "4"}).code, 0);
  EXPECT_NE(weights("seed"), weights("one"));
}

TEST_F(Pretrain, AResumedRunHasTheBitsOfAnUnbrokenOne) {
  for (const char* family : {"llama", "gpt2"}) {
    if (std::string(family) == "gpt2") {
      config["model"] = {{"model_type", "gpt2"}, {"n_embd", 32},      {"n_layer", 2},
                         {"n_head", 4},          {"n_positions", 64}, {"resid_pdrop", 0.1},
                         {"embd_pdrop", 0.1},    {"attn_pdrop", 0.1}};
    }
    const std::string whole = std::string(family) + "-whole", broken = std::string(family) + "-broken";
    ASSERT_EQ(pretrain(whole, {"--threads", "2"}).code, 0);
    ASSERT_EQ(pretrain(broken, {"--threads", "2"}).code, 0);
    for (const char* later : {"checkpoints/step-8", "checkpoints/step-12", "model"})
      fs::remove_all(place / broken / later);
    const RunResult r = pretrain(broken, {"--resume", "--threads", "1"});
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_SAYS(r.err, "resumed from");
    EXPECT_SAYS(r.err, "at step 4");
    EXPECT_EQ(weights(broken), weights(whole));
    EXPECT_EQ(metrics(broken), metrics(whole));
  }
}

/// Runs pretrain, sends it `signal` once it has taken `steps` steps, and returns its exit code.
int interrupt(const Arguments& arguments, const fs::path& metrics, int64_t steps, int signal) {
  const std::string binary = test::program_path("pretrain").string();
  const pid_t child = fork();
  if (child == 0) {
    dup2(open("/dev/null", O_WRONLY), 2);
    std::vector<char*> argv{const_cast<char*>(binary.c_str())};
    for (const auto& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
    argv.push_back(nullptr);
    execv(binary.c_str(), argv.data());
    _exit(127);
  }
  int status = 0;
  for (bool sent = false;;) {
    if (waitpid(child, &status, WNOHANG) == child) break;
    const std::string rows = read_text(metrics);
    if (!sent && std::count(rows.begin(), rows.end(), '\n') > steps) sent = kill(child, signal) == 0;
    usleep(1000);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST_F(Pretrain, ASignalEndsTheRunBehindItsStepAndNothingIsLost) {
  config["training"]["max_steps"] = 400;
  config["training"]["save_steps"] = 1000;
  config["evaluation"]["steps"] = 0;
  ASSERT_EQ(pretrain("whole").code, 0);
  for (const int signal : {SIGINT, SIGTERM}) {
    const std::string run = "signal" + std::to_string(signal);
    EXPECT_EQ(interrupt(arguments_of(run), place / run / "metrics.jsonl", 20, signal), 128 + signal);
    EXPECT_FALSE(fs::exists(place / run / "model"));
    const RunResult r = pretrain(run, {"--resume"});
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(weights(run), weights("whole"));
    EXPECT_EQ(metrics(run), metrics("whole"));
  }
}

TEST_F(Pretrain, AKilledRunGoesOnFromItsCheckpoint) {
  config["training"]["max_steps"] = 400;
  config["training"]["save_steps"] = 10;
  config["evaluation"]["steps"] = 0;
  ASSERT_EQ(pretrain("whole").code, 0);
  EXPECT_EQ(interrupt(arguments_of("killed"), place / "killed" / "metrics.jsonl", 35, SIGKILL),
            128 + SIGKILL);
  const RunResult r = pretrain("killed", {"--resume"});
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_SAYS(r.err, "resumed from");
  EXPECT_EQ(weights("killed"), weights("whole"));
  EXPECT_EQ(metrics("killed"), metrics("whole"));
}

TEST_F(Pretrain, AUserSignalSavesAndGoesOn) {
  config["training"]["max_steps"] = 300;
  config["training"]["save_steps"] = 1000;
  config["evaluation"]["steps"] = 0;
  EXPECT_EQ(interrupt(arguments_of("run"), place / "run" / "metrics.jsonl", 20, SIGUSR1), 0);
  const auto saved = std::distance(fs::directory_iterator(place / "run" / "checkpoints"), {});
  EXPECT_EQ(saved, 2);  // when asked, and at the end
}

TEST_F(Pretrain, ADamagedCheckpointIsPassedOverAndNamed) {
  ASSERT_EQ(pretrain("run").code, 0);
  const std::string expected = weights("run");
  const fs::path damaged = place / "run" / "checkpoints" / "step-12" / "optimizer.safetensors";
  std::string bytes = read_text(damaged);
  bytes[bytes.size() / 2] ^= 1;
  write_text(damaged, bytes);
  const RunResult r = pretrain("run", {"--resume"});
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_SAYS(r.err, "step-12");
  EXPECT_SAYS(r.err, "at step 8");
  EXPECT_EQ(weights("run"), expected);
}

TEST_F(Pretrain, AnotherRunIsNotResumedBySilence) {
  ASSERT_EQ(pretrain("run").code, 0);
  const RunResult again = pretrain("run");
  EXPECT_EQ(again.code, 2);
  EXPECT_SAYS(again.err, "--resume");
  const std::string before = weights("run");
  const RunResult other =
      pretrain("run", {"--resume", "--set", "training.learning_rate=0.02", "--set", "evaluation.steps=3"});
  EXPECT_EQ(other.code, 2);
  EXPECT_SAYS(other.err, "training.learning_rate: 0.01 before, now 0.02");
  EXPECT_EQ(other.err.find("evaluation.steps"), std::string::npos) << other.err;
  EXPECT_EQ(weights("run"), before);
  const RunResult allowed =
      pretrain("run", {"--resume", "--allow-config-changes", "--set", "training.max_steps=14"});
  EXPECT_EQ(allowed.code, 0) << allowed.err;
  EXPECT_EQ(metrics("run").back()["step"], 14);
  write_text(place / "text.txt", test::small_language(401));
  const RunResult data = pretrain("run", {"--resume", "--set", "training.max_steps=14"});
  EXPECT_EQ(data.code, 2);
  EXPECT_SAYS(data.err, "data: hash");
}

TEST_F(Pretrain, ALossThatIsNoNumberStopsBeforeTheUpdate) {
  // Every step multiplies the matrices by 1 - 1000, until they leave the range of floats.
  for (const auto& [key, value] : {std::pair("learning_rate", 1000),
                                   {"min_learning_rate", 1000},
                                   {"weight_decay", 1},
                                   {"max_steps", 40},
                                   {"save_steps", 1},
                                   {"max_grad_norm", 0}}) {
    config["training"][key] = value;
  }
  const RunResult r = pretrain("run");
  EXPECT_EQ(r.code, 1);
  EXPECT_SAYS(r.err, "nothing was updated");
  const int64_t good = metrics("run").back()["step"];
  EXPECT_SAYS(r.err, "error: step " + std::to_string(good + 1));
  EXPECT_SAYS(r.err, "samples " + std::to_string(4 * good) + " to " + std::to_string(4 * good + 3));
  EXPECT_SAYS(r.err, "checkpoints/step-" + std::to_string(good) + ".");
  EXPECT_TRUE(
      fs::exists(place / "run" / "checkpoints" / ("step-" + std::to_string(good)) / "trainer_state.json"));
  EXPECT_FALSE(fs::exists(place / "run" / "model"));
}

TEST_F(Pretrain, ADryRunTrainsNothing) {
  const RunResult r = pretrain("run", {"--dry-run"});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_SAYS(r.err, "memory: weights ");
  EXPECT_SAYS(r.err, "time: about");
  for (const char* file : {"metrics.jsonl", "model", "run.json", "report.html"}) {
    EXPECT_FALSE(fs::exists(place / "run" / file)) << file;
  }
  EXPECT_EQ(pretrain("run").code, 0);
}

TEST_F(Pretrain, APlanBeyondTheMemoryIsRefusedWithWhatWouldFit) {
  const RunResult batch = pretrain("run", {"--set", "training.batch_size=1000000"});
  EXPECT_EQ(batch.code, 1);
  EXPECT_SAYS(batch.err, "not enough memory");
  EXPECT_SAYS(batch.err, "would fit");
  const RunResult model =
      pretrain("run", {"--set", "model.hidden_size=65536", "--set", "model.num_hidden_layers=32"});
  EXPECT_EQ(model.code, 1);
  EXPECT_SAYS(model.err, "take a smaller model");
}

TEST_F(Pretrain, ThePlanHolds) {
  config["model"]["hidden_size"] = 128;
  config["model"]["intermediate_size"] = 512;
  config["training"]["batch_size"] = 64;
  config["training"]["sequence_length"] = 64;
  config["training"]["max_steps"] = 2;
  ASSERT_EQ(pretrain("run").code, 0);
  const std::string page = read_text(place / "run" / "report.html");
  EXPECT_SAYS(page, "memory plan");
  const RunResult r = pretrain("again");
  double peak = 0, planned = 0;
  char peak_unit[3] = "", planned_unit[3] = "";
  const size_t at = r.err.find("peak memory ");
  ASSERT_NE(at, std::string::npos);
  ASSERT_EQ(std::sscanf(r.err.c_str() + at, "peak memory %lf %2s, planned %lf %2s", &peak, peak_unit,
                        &planned, planned_unit),
            4);
  EXPECT_STREQ(peak_unit, planned_unit);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_NEAR(peak / planned, 1, 0.1);
#endif
}

TEST_F(Pretrain, WhatCannotBeTrainedOnIsNamed) {
  write_text(place / "empty.txt", "");
  write_text(place / "short.txt", "the cat");
  write_text(place / "two.bin", std::string("\x01\x00\xff\xff", 4));
  struct Case {
    std::string data;
    Arguments more;
    int code;
    std::string said;
  };
  const Case cases[] = {
      {"none.txt", {}, 2, "none.txt"},
      {"empty.txt", {}, 1, "expected text to train on"},
      {"short.txt", {}, 1, "data.train: expected more than training.sequence_length = 24 tokens"},
      {"two.bin", {}, 2, "model.vocab_size"},
      {"two.bin",
       {"--set", "model.vocab_size=60000"},
       1,
       "two.bin: expected ids below the vocabulary's 60000, found 65535"}};
  for (const Case& c : cases) {
    Arguments arguments = arguments_of("run-" + c.data + std::to_string(c.more.size()), c.more);
    *std::find(arguments.begin(), arguments.end(), path("text.txt")) = path(c.data);
    const RunResult r = run_program("pretrain", arguments);
    EXPECT_EQ(r.code, c.code) << r.err;
    EXPECT_SAYS(r.err, c.said);
  }
  const RunResult no_folder = pretrain("text.txt/run");
  EXPECT_EQ(no_folder.code, 1);
  EXPECT_SAYS(no_folder.err, "text.txt");
}

TEST_F(Pretrain, ImpossibleConfigsNameTheirKey) {
  const std::pair<const char*, const char*> cases[] = {
      {"model.num_attention_heads=5", "num_attention_heads"},
      {"model.num_key_value_heads=3", "num_key_value_heads"},
      {"training.sequence_length=65", "training.sequence_length"},
      {"training.max_steps=0", "training.max_steps"},
      {"training.lr_scheduler_type=cosin", "training.lr_scheduler_type"},
      {"training.adam_beta1=1", "training.adam_beta1"},
      {"training.warmup_steps=13", "training.warmup_steps"},
      {"data.validation_fraction=1", "data.validation_fraction"}};
  for (const auto& [setting, key] : cases) {
    const RunResult r = pretrain("run", {"--set", setting});
    EXPECT_EQ(r.code, 2) << setting << r.err;
    EXPECT_SAYS(r.err, key);
  }
}

TEST_F(Pretrain, GradientCheckpointingChangesNoBit) {
  ASSERT_EQ(pretrain("stored").code, 0);
  ASSERT_EQ(pretrain("recomputed", {"--set", "training.gradient_checkpointing=true"}).code, 0);
  EXPECT_EQ(weights("recomputed"), weights("stored"));
}

TEST_F(Pretrain, SmallBatchesAccumulateToALargeOne) {
  ASSERT_EQ(pretrain("large").code, 0);
  ASSERT_EQ(
      pretrain("small", {"--set", "training.batch_size=1", "--set", "training.gradient_accumulation_steps=4"})
          .code,
      0);
  const auto large = metrics("large"), small = metrics("small");
  ASSERT_EQ(large.size(), small.size());
  for (size_t i = 0; i < large.size(); ++i) {
    // The same samples and sums in another order: 12 steps of float rounding.
    const char* key = large[i].contains("loss") ? "loss" : "val_loss";
    EXPECT_NEAR(small[i][key].get<double>() / large[i][key].get<double>(), 1, 1e-4);
  }
}

TEST_F(Pretrain, EarlyStoppingStops) {
  const RunResult r =
      pretrain("run", {"--set", "training.learning_rate=0", "--set", "training.min_learning_rate=0", "--set",
                       "evaluation.early_stopping_patience=2", "--set", "evaluation.steps=1"});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_SAYS(r.err, "stopped early");
  EXPECT_LT(metrics("run").back()["step"], 5);
  EXPECT_TRUE(fs::exists(place / "run" / "model" / "model.safetensors"));
}

TEST_F(Pretrain, StartsFromAModelsWeights) {
  ASSERT_EQ(pretrain("first", {"--set", "training.max_steps=60"}).code, 0);
  const double learnt = metrics("first").back()["val_loss"];
  ASSERT_EQ(pretrain("second", {"--set", "training.init_from=" + path("first/model")}).code, 0);
  EXPECT_NEAR(metrics("second").front()["val_loss"].get<double>(), learnt, 0.1);
  ASSERT_EQ(pretrain("fresh").code, 0);
  EXPECT_GT(metrics("fresh").front()["val_loss"].get<double>(), learnt + 0.5);
}

TEST_F(Pretrain, HalfPrecisionFilesAreHalfAsLarge) {
  ASSERT_EQ(pretrain("f32").code, 0);
  ASSERT_EQ(pretrain("bf16", {"--set", "training.save_dtype=bfloat16"}).code, 0);
  EXPECT_LT(weights("bf16").size(), weights("f32").size() * 0.6);
  const auto model_config = json::parse(read_text(place / "bf16" / "model" / "config.json"));
  EXPECT_EQ(model_config["dtype"], "bfloat16");
}

TEST_F(Pretrain, ShippedConfigsAndSchemasAreTrue) {
  int configs = 0;
  for (const auto& entry : fs::directory_iterator(test::source_file("configs/pretrain"))) {
    const RunResult r = run_program("pretrain", {"--config", entry.path().string(), "--print-config"});
    EXPECT_EQ(r.code, 0) << entry.path() << r.err;
    ++configs;
  }
  EXPECT_GE(configs, 3);
  for (const char* name : {"tokenize", "pretrain", "finetune", "generate"}) {
    const auto file = test::source_file(std::string("configs/") + name + ".schema.json");
    EXPECT_EQ(run_program("llmtool", {"schema", name}).out, read_text(file))
        << "llmtool schema " << name << " > " << file;
  }
}

TEST_F(Pretrain, ShardsOfTheTokenizerAreTrainedOnAndOthersRefused) {
  const Arguments train = {"train",        "--input", path("text.txt"), "--model-type", "char",
                           "--vocab-size", "0",       "--quiet",        "--output"};
  Arguments first = train, second = train;
  first.push_back(path("tok"));
  second.insert(second.end(), {path("tok2"), "--user-symbol", "cat"});
  ASSERT_EQ(run_program("tokenize", first).code, 0);
  ASSERT_EQ(run_program("tokenize", second).code, 0);
  ASSERT_EQ(
      run_program("tokenize", {"encode", "--model", path("tok"), "--output", path("s.bin"), path("text.txt")})
          .code,
      0);
  config["tokenizer"] = {{"path", path("tok")}};
  config["data"] = {
      {"train", {{{"path", path("s.bin")}, {"weight", 3}}, {{"path", path("text.txt")}, {"weight", 1}}}}};
  write_text(place / "c.json", config.dump());
  const RunResult r = run_program("pretrain", {"--config", path("c.json"), "--output", path("run")});
  EXPECT_EQ(r.code, 0) << r.err;
  const RunResult other = run_program("pretrain", {"--config", path("c.json"), "--output", path("other"),
                                                   "--set", "tokenizer.path=" + path("tok2")});
  EXPECT_EQ(other.code, 1);
  EXPECT_SAYS(other.err, "another tokenizer");
}

TEST_F(Pretrain, AVocabularyLargerThanTheTokenizersWritesSamples) {
  config["model"]["vocab_size"] = 200;
  config["sample"] = {{"prompts", {"the cat"}}, {"temperature", 50}, {"top_k", 0}};
  const RunResult r = pretrain("run");
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(
      run_program("generate", {"--model", path("run"), "--temperature", "50", "-n", "60", "a dog"}).code, 0);
}

TEST_F(Pretrain, ATokenizerOfOtherSettingsIsTrainedAnew) {
  config["tokenizer"] = {{"model_type", "bpe"}, {"vocab_size", 300}};
  const auto pieces = [&] {
    const RunResult r = run_program("tokenize", {"inspect", "--model", path("run/tokenizer"), "--json"});
    return json::parse(r.out)["vocab_size"].get<int64_t>();
  };
  ASSERT_EQ(pretrain("run", {"--dry-run"}).code, 0);
  const int64_t before = pieces();
  ASSERT_EQ(pretrain("run", {"--dry-run"}).code, 0);
  EXPECT_EQ(pieces(), before);
  config["tokenizer"]["vocab_size"] = 280;
  ASSERT_EQ(pretrain("run").code, 0);
  EXPECT_EQ(pieces(), 280);
  config["tokenizer"]["vocab_size"] = 300;
  EXPECT_EQ(pretrain("run", {"--resume"}).code, 2);
  EXPECT_EQ(pieces(), 280) << "a run's tokenizer was replaced";
}

TEST_F(Pretrain, AnImpossibleConfigIsRefusedBeforeTheDataIsRead) {
  config["training"]["warmup_steps"] = 1000;
  EXPECT_EQ(pretrain("run").code, 2);
  EXPECT_FALSE(fs::exists(place / "run/tokenizer"));
  EXPECT_FALSE(fs::exists(place / "run/data"));
}

}  // namespace
}  // namespace llmtool
