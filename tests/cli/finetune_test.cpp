// finetune: what a run leaves, and what it says when it cannot begin.

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

/// What each animal does, which the base has not been told.
std::string answers(int rows) {
  const char* const animals[] = {"the cat ", "a dog ", "my hen "};
  const char* const ends[] = {"sees fish.", "likes corn.", "eats grass."};
  std::string text;
  for (int i = 0; i < rows; ++i) {
    std::string prompt;
    for (int n = 0; n <= i / 3; ++n) prompt += "a";
    text += json({{"prompt", prompt + animals[i % 3]}, {"completion", ends[i % 3]}}).dump() + "\n";
  }
  return text;
}

class FinetuneCommand : public test::RunTest {
 protected:
  void SetUp() override {
    RunTest::SetUp();
    write_text(place / "rows.jsonl", answers(24));
    config["training"]["max_steps"] = 40;
    config["evaluation"]["steps"] = 0;
    ASSERT_EQ(pretrain("base").code, 0);
  }
  RunResult finetune(const std::string& output, const Arguments& more = {"--full"}) const {
    Arguments arguments = {
        "--model", path("base"), "--data", path("rows.jsonl"),           "--output", path(output),
        "--seed",  "3",          "--set",  "training.learning_rate=0.01"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_program("finetune", arguments);
  }
};

TEST_F(FinetuneCommand, TeachesAModelWhatGenerateThenWrites) {
  const RunResult r =
      finetune("run", {"--full", "--set", "training.num_train_epochs=20", "--set",
                       "data.validation_fraction=0.2", "--set", "sample.prompts=[\"a dog \"]"});
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.out, "");
  for (const char* said : {"trained: ", "100 % of all", "examples", "memory: weights ", "validation loss",
                           "| a dog ", "peak memory", "model: "}) {
    EXPECT_SAYS(r.err, said);
  }
  for (const char* file : {"model/config.json", "model/generation_config.json", "model/model.safetensors",
                           "model/tokenizer.model", "run.json", "report.html", "metrics.jsonl"}) {
    EXPECT_TRUE(fs::exists(place / "run" / file)) << file;
  }
  for (const auto& [prompt, answer] : {std::pair("the cat ", "sees fish."), {"a dog ", "likes corn."}}) {
    const RunResult g = run_program("generate", {"--model", path("run"), "--temperature", "0", prompt});
    EXPECT_SAYS(g.out, answer);
  }
  const json run = json::parse(read_text(place / "run" / "run.json"));
  EXPECT_EQ(run["command"], "finetune");
  EXPECT_EQ(run["config"]["training"]["sequence_length"], 64);  // the model's context
}

TEST_F(FinetuneCommand, OneMethodMustBeNamed) {
  const RunResult none = finetune("run", {});
  EXPECT_EQ(none.code, 2);
  for (const char* method : {"--full", "--freeze", "--train-last", "--lora"}) EXPECT_SAYS(none.err, method);
  const RunResult two = finetune("run", {"--full", "--lora"});
  EXPECT_EQ(two.code, 2);
  EXPECT_SAYS(two.err, "found --full and --lora");
  EXPECT_EQ(finetune("run", {"--lora", "--ia3"}).code, 2);
  EXPECT_FALSE(fs::exists(place / "run"));
  EXPECT_EQ(finetune("last", {"--train-last", "1", "--set", "training.max_steps=1"}).code, 0);
  EXPECT_EQ(finetune("all", {"--freeze", "."}).code, 2);
}

TEST_F(FinetuneCommand, AResumedRunHasTheBitsOfAnUnbrokenOne) {
  const Arguments settings = {"--train-last", "1", "--set", "training.save_steps=3", "--threads"};
  const auto with = [&](Arguments more) {
    Arguments all = settings;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  ASSERT_EQ(finetune("whole", with({"2"})).code, 0);
  ASSERT_EQ(finetune("broken", with({"2"})).code, 0);
  fs::remove_all(place / "broken" / "checkpoints" / "step-18");
  fs::remove_all(place / "broken" / "model");
  const RunResult again = finetune("broken", with({"1"}));
  EXPECT_EQ(again.code, 2);
  EXPECT_SAYS(again.err, "--resume");
  const RunResult r = finetune("broken", with({"1", "--resume"}));
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_SAYS(r.err, "at step 15");
  EXPECT_EQ(weights("broken"), weights("whole"));
  EXPECT_EQ(metrics("broken"), metrics("whole"));
  const RunResult other = finetune("broken", with({"1", "--resume", "--set", "training.loss_on=all"}));
  EXPECT_EQ(other.code, 2);
  EXPECT_SAYS(other.err, "training.loss_on");
}

TEST_F(FinetuneCommand, ExpertsAreTaughtByTheNamesOfTheirParameters) {
  for (const auto& [key, value] :
       std::initializer_list<std::pair<const char*, json>>{{"model_type", "qwen3_moe"},
                                                           {"num_experts", 4},
                                                           {"num_experts_per_tok", 2},
                                                           {"moe_intermediate_size", 24}})
    config["model"][key] = value;
  fs::remove_all(place / "base");
  ASSERT_EQ(pretrain("base").code, 0);
  const Arguments settings = {
      "--lora",
      "--set",
      "training.num_train_epochs=8",
      "--set",
      "training.save_steps=20",
      "--set",
      "adapter.target_parameters=[\"experts.gate_up_proj\",\"experts.down_proj\",\"gate.weight\"]",
      "--threads"};
  const auto with = [&](Arguments more) {
    Arguments all = settings;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  const RunResult whole = finetune("whole", with({"2"}));
  ASSERT_EQ(whole.code, 0) << whole.err;
  ASSERT_EQ(finetune("broken", with({"1"})).code, 0);
  fs::remove_all(place / "broken" / "adapter");
  fs::remove_all(place / "broken" / "checkpoints" / "step-48");
  const RunResult again = finetune("broken", with({"1", "--resume"}));
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_SAYS(again.err, "at step 40");
  const auto adapter = [&](const std::string& run) {
    return read_text(place / run / "adapter" / "adapter_model.safetensors");
  };
  EXPECT_EQ(adapter("broken"), adapter("whole"));
  const json written = json::parse(read_text(place / "whole" / "adapter" / "adapter_config.json"));
  EXPECT_EQ(written["target_modules"], json::array());
  EXPECT_EQ(written["target_parameters"].size(), 3);
  const RunResult merged = run_program("llmtool", {"merge", "--model", path("base"), "--adapter",
                                                   path("whole/adapter"), "--output", path("merged")});
  ASSERT_EQ(merged.code, 0) << merged.err;
  const auto answer = [&](Arguments model) {
    for (const char* more : {"--temperature", "0", "the cat "}) model.emplace_back(more);
    return run_program("generate", model).out;
  };
  const std::string adapted = answer({"--model", path("base"), "--adapter", path("whole/adapter")});
  EXPECT_EQ(adapted, answer({"--model", path("merged")}));
  EXPECT_NE(adapted, answer({"--model", path("base")}));
  const RunResult follows =
      finetune("follows", {"--init-adapter", path("whole/adapter"), "--set", "training.max_steps=1"});
  EXPECT_EQ(follows.code, 0) << follows.err;
  const RunResult refused = finetune("refused", with({"1", "--set", "adapter.lora_dropout=0.1"}));
  EXPECT_EQ(refused.code, 2);
  EXPECT_SAYS(refused.err, "adapter.lora_dropout: expected 0 beside target_parameters, found 0.1");
}

TEST_F(FinetuneCommand, SettingsMustBeThoseOfTheAdapterThatItBeginsWith) {
  const Arguments brief = {"--set", "training.max_steps=2"};
  const auto begin = [&](const std::string& output, const Arguments& more) {
    Arguments all = {"--init-adapter", path("first/adapter")};
    all.insert(all.end(), brief.begin(), brief.end());
    all.insert(all.end(), more.begin(), more.end());
    return finetune(output, all);
  };
  ASSERT_EQ(finetune("first", {"--lora", "--set", "training.max_steps=2", "--set", "adapter.r=3", "--set",
                               "adapter.lora_alpha=5", "--set", "adapter.target_modules=all-linear"})
                .code,
            0);
  const RunResult other =
      begin("other", {"--set", "adapter.r=8", "--set", "adapter.lora_alpha=5.0", "--set",
                      "adapter.use_dora=true", "--set", "adapter.target_modules=[\"q_proj\"]"});
  EXPECT_EQ(other.code, 2);
  for (const char* said :
       {"first/adapter", "adapter.r: 3 there, given 8", "adapter.use_dora: false there, given true",
        "adapter.target_modules: [", "given [\"q_proj\"]"}) {
    EXPECT_SAYS(other.err, said);
  }
  EXPECT_EQ(other.err.find("lora_alpha"), std::string::npos) << "which is the same";
  const RunResult method = begin("method", {"--ia3"});
  EXPECT_EQ(method.code, 2);
  EXPECT_SAYS(method.err, "adapter.peft_type: \"LORA\" there, given \"IA3\"");
  for (const char* name : {"other", "method"}) EXPECT_FALSE(fs::exists(place / name / "run.json")) << name;
  const RunResult follows = begin("follows", {});
  ASSERT_EQ(follows.code, 0) << follows.err;
  const json settings = json::parse(read_text(place / "follows" / "adapter" / "adapter_config.json"));
  EXPECT_EQ(settings["r"], 3);
  EXPECT_EQ(settings["lora_alpha"], 5);
  const RunResult same = begin("same", {"--lora", "--set", "adapter.r=3", "--set", "adapter.bias=none",
                                        "--set", "adapter.target_modules=all-linear"});
  EXPECT_EQ(same.code, 0) << same.err;
}

TEST_F(FinetuneCommand, APreviewShowsExamplesAndTrainsNothing) {
  const RunResult r =
      run_program("finetune", {"--model", path("base"), "--data", path("rows.jsonl"), "--preview", "2"});
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_SAYS(r.out, "the cat");
  EXPECT_SAYS(r.out, "likes corn.");
  EXPECT_EQ(r.out.find("eats grass."), std::string::npos) << "a third example";
  EXPECT_SAYS(r.err, "24 examples");  // what the linter says of all
}

TEST_F(FinetuneCommand, APreviewForProgramsHasIdsAndWhatIsLearnt) {
  const RunResult r = run_program(
      "finetune", {"--model", path("base"), "--data", path("rows.jsonl"), "--preview", "1", "--json"});
  ASSERT_EQ(r.code, 0) << r.err;
  const json row = json::parse(r.out);
  EXPECT_EQ(row["text"], "athe cat sees fish.");
  EXPECT_SAYS(row["origin"].get<std::string>(), "row 1");
  ASSERT_EQ(row["ids"].size(), row["trained"].size());
  EXPECT_EQ(row["trained"].front(), 0);
  EXPECT_EQ(row["trained"].back(), 1);
}

TEST_F(FinetuneCommand, WhatWouldChangeNothingIsRefused) {
  for (const auto& [setting, said] : std::initializer_list<std::pair<const char*, const char*>>{
           {"adapter.rank_pattern={\"k_proj\":2}", "adapter.rank_pattern: k_proj"},
           {"adapter.alpha_pattern={\"layers.77.q_proj\":2}", "adapter.alpha_pattern: layers.77.q_proj"},
           {"adapter.exclude_modules=[\"q_prjo\"]", "adapter.exclude_modules: q_prjo"},
           {"training.learning_rates=[{\"pattern\":\"(\",\"learning_rate\":1}]",
            "training.learning_rates"}}) {
    const RunResult r = finetune("run", {"--lora", "--set", setting});
    EXPECT_EQ(r.code, 2) << setting;
    EXPECT_SAYS(r.err, said);
  }
  EXPECT_EQ(finetune("run", {"--lora", "--dry-run", "--set", "adapter.rank_pattern={\"q_proj\":2}"}).code, 0);
}

TEST_F(FinetuneCommand, ADryRunTrainsNothing) {
  const RunResult r = finetune("run", {"--full", "--dry-run"});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_SAYS(r.err, "memory: weights ");
  EXPECT_SAYS(r.err, "time: about");
  EXPECT_FALSE(fs::exists(place / "run"));
  const RunResult nowhere =
      run_program("finetune", {"--model", path("base"), "--data", path("rows.jsonl"), "--full", "--dry-run"});
  EXPECT_EQ(nowhere.code, 0) << nowhere.err;
  const json plan = json::parse(finetune("run", {"--full", "--dry-run", "--json"}).out);
  EXPECT_GT(plan["memory_bytes"]["weights"], 0);
  EXPECT_GT(plan["memory_bytes"]["total"], plan["memory_bytes"]["weights"]);
  EXPECT_EQ(plan["steps"], 18);  // 24 rows, 4 a step, 3 epochs
  EXPECT_FALSE(fs::exists(place / "run"));
}

TEST_F(FinetuneCommand, ADryRunGoesOnWhereTheRunWould) {
  const Arguments settings = {"--lora", "--set", "training.max_steps=4", "--set", "training.save_steps=2"};
  ASSERT_EQ(finetune("first", settings).code, 0);
  Arguments more = settings;
  more.insert(more.end(), {"--init-adapter", path("first/adapter")});
  ASSERT_EQ(finetune("run", more).code, 0);
  fs::remove_all(place / "first");
  fs::remove_all(place / "run" / "checkpoints" / "step-4");
  const std::string rows = read_text(place / "run" / "metrics.jsonl");
  more.insert(more.end(), {"--resume", "--dry-run"});
  const RunResult r = finetune("run", more);
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(read_text(place / "run" / "metrics.jsonl"), rows);
  more.insert(more.end(), {"--set", "training.loss_on=all"});
  EXPECT_EQ(finetune("run", more).code, 2) << "the run itself would be refused";
}

TEST_F(FinetuneCommand, NewTokensMustBeLearnt) {
  for (const Arguments& method : {Arguments{"--train-last", "1"}, {"--freeze", "embed_tokens"}}) {
    Arguments more = method;
    more.insert(more.end(), {"--add-tokens", "<call>", "--dry-run"});
    const RunResult r = finetune("run", more);
    EXPECT_EQ(r.code, 2);
    EXPECT_SAYS(r.err, "model.embed_tokens.weight is frozen");
  }
  EXPECT_EQ(finetune("run", {"--freeze", "layers", "--add-tokens", "<call>", "--dry-run"}).code, 0);
}

TEST_F(FinetuneCommand, ATaskMustBeThatOfTheData) {
  const RunResult r = finetune("run", {"--lora", "--dry-run", "--set", "adapter.task_type=SEQ_CLS"});
  EXPECT_EQ(r.code, 2);
  EXPECT_SAYS(r.err, "adapter.task_type: expected CAUSAL_LM");
  EXPECT_EQ(finetune("run", {"--lora", "--dry-run", "--set", "adapter.task_type=CAUSAL_LM"}).code, 0);
}

TEST_F(FinetuneCommand, AnEmptyLabelIsNamed) {
  write_text(place / "rows.csv", "text,kind\na cat,beast\na hen,\n");
  const RunResult r =
      run_program("finetune", {"--model", path("base"), "--data", path("rows.csv"), "--output", path("run"),
                               "--full", "--set", "data.label_column=kind"});
  EXPECT_EQ(r.code, 1);
  EXPECT_SAYS(r.err, "row 3: data.label_column: expected a label in column kind, found an empty one");
}

TEST_F(FinetuneCommand, TheLinterRefusesWhatIsNotAllowed) {
  write_text(place / "rows.jsonl", answers(12) + answers(2));
  const RunResult refused = finetune("run");
  EXPECT_EQ(refused.code, 1);
  EXPECT_SAYS(refused.err, "--allow duplicate");
  EXPECT_EQ(finetune("run", {"--full", "--allow", "duplicate", "--set", "training.max_steps=1"}).code, 0);
  const RunResult unknown = finetune("other", {"--full", "--allow", "everything"});
  EXPECT_EQ(unknown.code, 2);
}

TEST_F(FinetuneCommand, AClassifierIsReadByClassify) {
  std::string rows;
  for (int i = 0; i < 40; ++i) {
    const std::string animal = i % 2 ? "my hen " : "a dog ";
    rows += json({{"text", std::string(static_cast<size_t>(i / 2), 'a') + animal},
                  {"kind", i % 2 ? "bird" : "beast"}})
                .dump() +
            "\n";
  }
  write_text(place / "rows.jsonl", rows);
  const RunResult r =
      finetune("run", {"--full", "--set", "data.label_column=kind", "--set", "data.validation_fraction=0.3",
                       "--set", "training.num_train_epochs=10"});
  ASSERT_EQ(r.code, 0) << r.err;
  for (const char* said :
       {"a fresh classification head", "accuracy", "macro F1", "true \\ predicted", "precision"})
    EXPECT_SAYS(r.err, said);
  EXPECT_EQ(metrics("run").back()["val_accuracy"], 1.0);
  const RunResult c = run_program("llmtool", {"classify", "--model", path("run"), "aaa my hen "});
  EXPECT_EQ(c.code, 0) << c.err;
  EXPECT_SAYS(c.out, "bird");
}

TEST_F(FinetuneCommand, BertLearnsClassesWithAPoolerOfItsOwn) {
  // Letters, for the golden models know few ids.
  write_text(place / "rows.jsonl",
             "{\"text\": \"a x\", \"label\": 1}\n{\"text\": \"b x x\", \"label\": 0}\n");
  for (const char* model : {"bert", "bert_classifier", "bert_masked"}) {
    const Arguments arguments = {
        "--model",
        test::source_file(std::string("tests/reference/goldens/") + model).string(),
        "--data",
        path("rows.jsonl"),
        "--output",
        path(model),
        "--full",
        "--set",
        "tokenizer.path=" + test::source_file("tests/reference/goldens_tokenizers/bert").string(),
        "--set",
        "data.label_column=label",
        "--set",
        "data.labels=[\"no\", \"yes\"]",
        "--set",
        "training.max_steps=30",
        "--set",
        "training.learning_rate=0.01"};
    const RunResult r = run_program("finetune", arguments);
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_LT(metrics(model).back()["loss"], 0.1);
    EXPECT_EQ(run_program("llmtool", {"classify", "--model", path(model), "a x"}).code, 0);
  }
}

TEST_F(FinetuneCommand, ShippedConfigsAreRead) {
  int configs = 0;
  for (const auto& entry : fs::directory_iterator(test::source_file("configs/finetune"))) {
    const RunResult r = run_program("finetune", {"--config", entry.path().string(), "--print-config"});
    EXPECT_EQ(r.code, 0) << entry.path() << r.err;
    ++configs;
  }
  EXPECT_GE(configs, 2);
}

}  // namespace
}  // namespace llmtool
