// Fine-tuning a model of a few thousand parameters.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>

#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/io/safetensors.h"
#include "llmtool/model/model_source.h"
#include "llmtool/model/transformer.h"
#include "llmtool/peft/merge.h"
#include "llmtool/train/finetune_data.h"
#include "llmtool/train/trainer.h"
#include "support.h"
#include "train/example_batches.h"
#include "train/trained_params.h"

namespace llmtool {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

/// Rows {"prompt", "completion"} of unlike lengths.
std::string sums(int rows) {
  std::string text;
  for (int i = 0; i < rows; ++i) {
    const std::string sign(static_cast<size_t>(1 + i % 4), '+');
    text +=
        json({{"prompt", std::to_string(i) + sign}, {"completion", " = " + std::to_string(i * 7)}}).dump() +
        "\n";
  }
  return text;
}

class Finetune : public ::testing::Test {
 protected:
  void SetUp() override {
    set_quiet(true);
    std::string text;
    for (int i = 0; i < 200; ++i)
      text += std::to_string(i * 13) + "++ = " + std::to_string(i) + " good bad\n";
    test::write_text(place / "text.txt", text);
    test::write_text(place / "rows.jsonl", sums(11));
    base.model = ModelConfig::of_family("llama");
    base.model.hidden_size = 16;
    base.model.intermediate_size = 32;
    base.model.num_hidden_layers = 2;
    base.model.max_position_embeddings = 64;
    base.model.tie_word_embeddings = false;
    base.tokenizer.training.model_type = "char";
    base.tokenizer.training.vocab_size = 0;
    base.data.train = {{(place / "text.txt").string(), 0}};
    base.training.schedule.max_steps = 1;
    base.training.sequence_length = 32;
    make_base("base");
    config.data.train = {{(place / "rows.jsonl").string(), 0}};
    config.training.batch_size = 2;
    config.training.gradient_accumulation_steps = 2;
    config.learning_rate = 1e-3;
  }
  void TearDown() override { set_quiet(false); }
  /// The model that later runs begin with.
  void make_base(const std::string& name) {
    RunOptions options;
    options.output = place / name;
    pretrain(pool, base, options);
    config.model = (place / name).string();
  }

  RunOutcome run(const std::string& name, bool resume = false) {
    FinetuneOptions options;
    options.output = place / name;
    options.resume = resume;
    return finetune(pool, config, options);
  }
  /// The run as it was after its step `kept`, saved at every step.
  void break_off(const std::string& name, int64_t kept) const {
    for (const auto& entry : fs::directory_iterator(place / name / "checkpoints")) {
      if (std::stoll(entry.path().filename().string().substr(5)) > kept) fs::remove_all(entry.path());
    }
    for (const char* result : {"model", "adapter"}) fs::remove_all(place / name / result);
  }
  void save_every_step() {
    config.training.save_steps = 1;
    config.training.save_total_limit = 20;
  }
  std::string adapter(const std::string& name) const {
    return test::read_text(place / name / "adapter" / "adapter_model.safetensors");
  }
  std::string weights(const std::string& name) const {
    return test::read_text(place / name / "model" / "model.safetensors");
  }
  /// Rows of metrics.jsonl with `key`.
  std::vector<json> rows(const std::string& name, const char* key = "loss") const {
    std::vector<json> found;
    std::istringstream lines(test::read_text(place / name / "metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      json row = json::parse(line);
      row.erase("seconds");
      row.erase("tokens_per_second");
      if (row.contains(key)) found.push_back(row);
    }
    return found;
  }

  test::TempFolder place;
  ThreadPool pool{2};
  PretrainConfig base;
  FinetuneConfig config;
};

TEST_F(Finetune, AnEpochEndsWithASmallerStep) {
  run("run");
  const auto steps = rows("run");
  ASSERT_EQ(steps.size(), 9u);  // three epochs of 11 examples, 4 a step
  EXPECT_DOUBLE_EQ(steps[2]["epoch"].get<double>(), 1);
  EXPECT_DOUBLE_EQ(steps[3]["epoch"].get<double>(), 4.0 / 3);
  EXPECT_LT(steps[8]["loss"], steps[0]["loss"]);
  const std::string page = test::read_text(place / "run" / "report.html");
  EXPECT_NE(page.find("Lengths of the examples"), std::string::npos);
  config.num_train_epochs = 0.5;
  run("half");
  EXPECT_EQ(rows("half").size(), 2u);
  config.max_steps = 4;
  run("four");
  EXPECT_EQ(rows("four").size(), 4u);
}

TEST_F(Finetune, AResumedRunHasTheBitsOfAnUnbrokenOne) {
  save_every_step();
  config.evaluation.steps = 2;
  config.data.validation_fraction = 0.2;
  for (const bool packing : {false, true}) {
    config.data.packing = packing;
    const std::string whole = packing ? "packed-whole" : "whole", broken = packing ? "packed" : "broken";
    config.sequence_length = packing ? 24 : 64;
    config.training.gradient_accumulation_steps = packing ? 1 : 2;
    run(whole);
    run(broken);
    const int64_t last = rows(whole).back()["step"];
    ASSERT_GT(last, 3);
    // Behind the partial step of the first epoch, and within the second.
    for (const int64_t kept : {last / 3, last / 2}) {
      break_off(broken, kept);
      run(broken, true);
      EXPECT_EQ(weights(broken), weights(whole));
      EXPECT_EQ(rows(broken, "step"), rows(whole, "step"));
    }
  }
}

TEST_F(Finetune, HasTheSameBitsForAnyNumberOfThreads) {
  run("two");
  ThreadPool five(5);
  FinetuneOptions options;
  options.output = place / "five";
  finetune(five, config, options);
  EXPECT_EQ(weights("five"), weights("two"));
}

TEST_F(Finetune, AccumulatedEqualsOneLargeBatch) {
  run("small");
  config.training.batch_size = 4;
  config.training.gradient_accumulation_steps = 1;
  run("large");
  const auto small = rows("small"), large = rows("large");
  ASSERT_EQ(small.size(), large.size());
  // The same examples and sums in another order: a few steps of float rounding. Were each micro batch divided
  // by its own tokens, the unlike lengths would tell in the second digit.
  for (size_t i = 0; i < small.size(); ++i)
    EXPECT_NEAR(small[i]["loss"].get<double>() / large[i]["loss"].get<double>(), 1, 1e-5) << i;
}

TEST_F(Finetune, PackingChangesNoLoss) {
  config.max_steps = 1;
  config.training.batch_size = 1;
  config.training.gradient_accumulation_steps = 11;
  run("single");
  config.data.packing = true;
  config.sequence_length = 40;
  run("packed");
  const json single = rows("single")[0], packed = rows("packed")[0];
  EXPECT_LT(rows("packed").size(), 11u);
  for (const char* key : {"loss", "grad_norm"})
    EXPECT_NEAR(packed[key].get<double>() / single[key].get<double>(), 1, 1e-5) << key;
}

TEST_F(Finetune, PackingKeepsVirtualTokensInFrontOfEveryExample) {
  config.max_steps = 1;
  config.adapter.num_virtual_tokens = 6;
  config.evaluation.steps = 0;
  config.sequence_length = 40;
  for (const char* method : {"PROMPT_TUNING", "PREFIX_TUNING"}) {
    config.adapter.peft_type = method;
    config.training.batch_size = 1;
    config.training.gradient_accumulation_steps = 11;
    config.data.packing = false;
    const std::string name = method;
    run(name);
    config.data.packing = true;
    config.training.batch_size = 11;  // packs, which hold more examples than there are packs
    config.training.gradient_accumulation_steps = 1;
    run(name + "-packed");
    const json single = rows(name)[0], packed = rows(name + "-packed")[0];
    for (const char* key : {"loss", "grad_norm"})
      EXPECT_NEAR(packed[key].get<double>() / single[key].get<double>(), 1, 1e-5) << method << " " << key;
  }
}

TEST_F(Finetune, WhatIsFrozenKeepsItsBits) {
  config.freeze = R"(layers\.0\.|norm)";
  run("run");
  const auto before = ModelSource::open(place / "base"), after = ModelSource::open(place / "run");
  Transformer model(before->config());
  int frozen = 0, learnt = 0;
  for (const Param& p : model.params().list()) {
    const Tensor a = before->find(p).tensor, b = after->find(p).tensor;
    const bool same = std::memcmp(a.data, b.data, a.bytes()) == 0;
    const bool named =
        p.name.find("layers.0.") != std::string::npos || p.name.find("norm") != std::string::npos;
    EXPECT_EQ(same, named) << p.name;
    ++(named ? frozen : learnt);
  }
  EXPECT_GT(frozen, 8);
  EXPECT_GT(learnt, 5);
}

TEST_F(Finetune, ACheckpointHoldsWhatIsLearntAlone) {
  save_every_step();
  config.freeze = R"(layers\.0\.|norm|embed)";
  run("whole");
  run("broken");
  const fs::path checkpoint = place / "broken" / "checkpoints" / "step-4";
  EXPECT_FALSE(fs::exists(checkpoint / "model"));
  const SafetensorsFile trained(checkpoint / kTrainedWeights);
  const Transformer model = load_transformer(place / "whole");
  for (const Param& p : model.params().list()) {
    const bool frozen = std::regex_search(p.name, std::regex(config.freeze));
    EXPECT_EQ(trained.tensors().contains(p.name), !frozen) << p.name;
  }
  break_off("broken", 4);
  EXPECT_THROW(load_transformer(place / "broken"), UsageError);
  run("broken", true);
  EXPECT_EQ(weights("broken"), weights("whole"));
  EXPECT_EQ(rows("broken", "step"), rows("whole", "step"));
}

TEST_F(Finetune, AFrozenBaseMustStayWhatItWas) {
  save_every_step();
  for (const bool adapts : {false, true}) {
    const std::string name = adapts ? "adapted" : "frozen";
    config.freeze = adapts ? "" : "norm";
    config.adapter.peft_type = adapts ? "LORA" : "";
    run(name);
    break_off(name, 4);
    const fs::path file = place / "base" / "model" / "model.safetensors";
    const std::string before = test::read_text(file);
    Transformer model = load_transformer(place / "base");
    model.params().find("model.norm.weight")->value.f32()[3] += 1;
    save_transformer(model, place / "base" / "model", DType::f32);
    EXPECT_THROW(run(name, true), UsageError) << name;
    test::write_text(file, before);
    run(name, true);
  }
}

TEST_F(Finetune, CheckpointsThatHoldAllWeightsAreStillRead) {
  save_every_step();
  config.freeze = "norm";
  run("run");
  const std::string whole = weights("run");
  const fs::path last = place / "run" / "checkpoints" / "step-9";
  fs::remove(last / kTrainedWeights);
  fs::rename(place / "run" / "model", last / "model");
  write_manifest(last);
  run("run", true);
  EXPECT_EQ(weights("run"), whole);
}

TEST_F(Finetune, ARunGoesOnWithoutTheAdapterThatItBeganWith) {
  save_every_step();
  for (const char* type : {"LORA", "ADALORA"}) {
    const std::string first = std::string(type) + "-first", whole = std::string(type) + "-whole",
                      broken = std::string(type) + "-broken";
    config.init_adapter.clear();
    config.adapter = {};
    config.adapter.peft_type = type;
    config.adapter.lora_alpha = 12;
    run(first);
    config.adapter = {};
    config.init_adapter = (place / "start").string();
    fs::copy(place / first / "adapter", config.init_adapter);
    run(whole);
    run(broken);
    EXPECT_LT(rows(whole)[0]["loss"], rows(first)[0]["loss"]) << "its weights are the start";
    fs::remove_all(config.init_adapter);
    break_off(broken, 4);
    run(broken, true);
    EXPECT_EQ(adapter(broken), adapter(whole));
    EXPECT_EQ(rows(broken, "step"), rows(whole, "step"));
    EXPECT_THROW(run(std::string(type) + "-fresh"), UsageError) << "the folder is gone";
  }
}

TEST_F(Finetune, TheLastBlocksLearnWithWhatStandsBehindThem) {
  Transformer model = load_transformer(place / "base");
  freeze_params(model, "", 1);
  for (const Param& p : model.params().list()) {
    const bool in_front =
        p.name.find("embed_tokens") != std::string::npos || p.name.find("layers.0.") != std::string::npos;
    EXPECT_EQ(p.trainable, !in_front) << p.name;
  }
  EXPECT_THROW(freeze_params(model, "", 3), UsageError);
  EXPECT_THROW(freeze_params(model, "no such name", 0), UsageError);
  EXPECT_THROW(freeze_params(model, "(", 0), UsageError);
  EXPECT_THROW(freeze_params(model, ".", 0), UsageError) << "nothing is left";
}

TEST_F(Finetune, ParametersHaveRatesOfTheirOwn) {
  config.training.schedule.type = "constant";
  config.max_steps = 1;
  config.learning_rates = {{"lm_head", 0}, {"head|embed", 4e-3}};
  config.training.adam.eps = 1e-12;
  run("run");
  const auto before = ModelSource::open(place / "base"), after = ModelSource::open(place / "run");
  Transformer a = load_transformer(place / "base"), b = load_transformer(place / "run");
  // The first step of Adam moves each value by the rate, whatever its gradient.
  const auto moved = [&](const char* name) {
    const Tensor x = a.params().find(name)->value, y = b.params().find(name)->value;
    float most = 0;
    for (int64_t i = 0; i < x.size(); ++i) most = std::max(most, std::abs(x.f32()[i] - y.f32()[i]));
    return most;
  };
  EXPECT_EQ(moved("lm_head.weight"), 0);
  EXPECT_NEAR(moved("model.embed_tokens.weight"), 4e-3, 1e-5);
  EXPECT_NEAR(moved("model.layers.0.mlp.down_proj.weight"), 1e-3, 1e-5);
}

TEST_F(Finetune, ClassesAreLearnt) {
  std::string text;
  for (int i = 0; i < 60; ++i) {
    const bool good = i % 3 != 0;
    text += json({{"text", std::to_string(i) + (good ? " good" : " bad")}, {"verdict", good ? "yes" : "no"}})
                .dump() +
            "\n";
  }
  test::write_text(place / "classes.jsonl", text);
  config.data.train = {{(place / "classes.jsonl").string(), 0}};
  config.data.label_column = "verdict";
  config.data.validation_fraction = 0.3;
  config.num_train_epochs = 12;
  config.learning_rate = 1e-2;
  run("run");
  const json last = rows("run", "val_loss").back();
  EXPECT_EQ(last["val_accuracy"], 1.0);
  EXPECT_EQ(last["val_f1"], 1.0);
  EXPECT_EQ(last["val_confusion"][0][1], 0);
  const ModelConfig saved = ModelSource::open(place / "run")->config();
  EXPECT_EQ(saved.head, HeadKind::classification);
  EXPECT_EQ(saved.labels, (std::vector<std::string>{"no", "yes"}));
  EXPECT_NE(test::read_text(place / "run" / "report.html").find("Confusion matrix"), std::string::npos);
  // Its own head is the start of the next run.
  config.model = (place / "run").string();
  config.max_steps = 1;
  run("more");
  EXPECT_EQ(rows("more", "val_loss").front()["val_accuracy"], 1.0);
}

/// The values of one of a model's matrices.
RowMatrix matrix_of(const fs::path& folder, const char* name) {
  Transformer model = load_transformer(folder);
  return matrix(model.params().find(name)->value);
}

TEST_F(Finetune, NewTokensBeginAsTheMeanOfTheOldOnesAlsoInSpareRows) {
  test::write_text(place / "rows.jsonl", "{\"prompt\": \"1<a>2\", \"completion\": \" = <b>\"}\n" + sums(4));
  config.learning_rate = 0;
  config.max_steps = 1;
  base.model.vocab_size = 40;  // more than the characters
  make_base("padded");
  const int64_t known = load_tokenizer(place / "padded" / "model")->vocab_size();
  ASSERT_LT(known + 2, 40);
  std::vector<std::string> many = {"<a>", "<b>"};
  while (known + static_cast<int64_t>(many.size()) < 44) many.push_back(cat("<", many.size(), ">"));
  for (const bool beyond : {false, true}) {
    config.add_tokens = beyond ? many : std::vector<std::string>{"<a>", "<b>", "1"};  // "1" is no new one
    const std::string name = beyond ? "beyond" : "spare";
    run(name);
    const int64_t end = beyond ? 44 : known + 2;
    for (const char* parameter : {"model.embed_tokens.weight", "lm_head.weight"}) {
      const RowMatrix before = matrix_of(place / "padded", parameter);
      const RowMatrix after = matrix_of(place / name, parameter);
      EXPECT_EQ(after.rows(), beyond ? 44 : 40);
      EXPECT_EQ(after.topRows(known), before.topRows(known));
      const RowMatrix mean = before.topRows(known).cast<double>().colwise().mean().cast<float>();
      for (int64_t row = known; row < end; ++row)
        EXPECT_LT((after.row(row) - mean).cwiseAbs().maxCoeff(), 1e-7f) << "float rounding of " << row;
      const int64_t rest = after.rows() - end;
      EXPECT_EQ(after.bottomRows(rest), before.bottomRows(rest)) << "of no token";
    }
  }
}

TEST_F(Finetune, NewTokensInSpareRowsAreLearntByAdapters) {
  test::write_text(place / "rows.jsonl", "{\"prompt\": \"1<a>2\", \"completion\": \" = <b>\"}\n" + sums(4));
  config.max_steps = 2;
  config.add_tokens = {"<a>", "<b>"};
  config.adapter.peft_type = "LORA";
  base.model.vocab_size = 40;
  for (const bool tied : {false, true}) {
    base.model.tie_word_embeddings = tied;
    const std::string name = tied ? "tied" : "untied";
    make_base(name);
    run(name + "-run");
    const fs::path folder = place / (name + "-run") / "adapter";
    const AdaptedModel adapted(ModelSource::open(place / name), {{folder, 1}});
    EXPECT_EQ(adapted.model->config().tie_word_embeddings, tied);
    const int64_t known = load_tokenizer(place / name / "model")->vocab_size();
    EXPECT_EQ(load_tokenizer(folder)->vocab_size(), known + 2);
    for (const char* parameter : {"model.embed_tokens.weight", "lm_head.weight"}) {
      if (tied && parameter == std::string("lm_head.weight")) continue;
      const RowMatrix before = matrix_of(place / name, parameter);
      const RowMatrix after = matrix(adapted.model->params().find(parameter)->value);
      const RowMatrix mean = before.topRows(known).cast<double>().colwise().mean().cast<float>();
      EXPECT_EQ(after.rows(), 40);
      for (int64_t row = known; row < known + 2; ++row) {
        const float moved = (after.row(row) - mean).cwiseAbs().maxCoeff();
        EXPECT_GT(moved, 1e-6f) << name << " " << parameter << " " << row;
        EXPECT_LT(moved, 1e-2f) << "two steps from the mean";
      }
    }
    // Who goes on from there names the same tokens in the same order.
    config.init_adapter = folder.string();
    const std::vector<std::string> ours = std::exchange(config.add_tokens, {});
    for (const auto& others :
         std::vector<std::vector<std::string>>{{}, {"<b>", "<a>"}, {"<a>", "<b>", "<c>"}}) {
      config.add_tokens = others;
      EXPECT_THROW(run(name + "-others"), UsageError) << others.size();
    }
    config.add_tokens = ours;
    run(name + "-again");
    config.init_adapter = "";
  }
}

TEST_F(Finetune, QuantizationThatShapesForbidIsRefusedOrSaid) {
  config.adapter.peft_type = "LORA";
  config.max_steps = 1;
  config.quantization = "nf4";  // in blocks of 64, the embedding's q8_0 in blocks of 32
  try {
    run("none");
    FAIL() << "nothing was quantized";
  } catch (const UsageError& e) {
    EXPECT_NE(std::string(e.what()).find("rows are not whole blocks of 64"), std::string::npos) << e.what();
  }
  config.quantization = "q8_0";  // down_proj alone
  testing::internal::CaptureStderr();
  run("some");
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("warning: model.quantization: "), std::string::npos) << said;
  EXPECT_NE(said.find("rows are not whole blocks of 32"), std::string::npos) << said;
}

TEST_F(Finetune, WhatCannotBeIsRefused) {
  config.training.schedule.warmup_steps = 100;
  EXPECT_THROW(run("run"), UsageError);
  config.training.schedule.warmup_steps = 0;
  config.sequence_length = 65;  // the context is 64
  EXPECT_THROW(run("run"), UsageError);
  config.sequence_length = 8;  // cuts completions off
  EXPECT_THROW(run("run"), Error);
  config.sequence_length.reset();
  config.model = (place / "none").string();
  EXPECT_THROW(run("run"), UsageError);
}

TEST_F(Finetune, EveryExampleComesOnceAnEpoch) {
  FinetuneConfig settled = config;
  const auto base = ModelSource::open(config.model);
  settled.settle(base->config().context());
  const FinetuneData data = load_finetune_data(pool, settled, *base);
  for (const int64_t pack_length : {0, 30}) {
    const ExampleBatches batches(data.examples.train, config.data.train, {2, 2, pack_length, true, 7});
    std::vector<std::vector<int64_t>> epochs;
    for (int64_t epoch = 0; epoch < 2; ++epoch) {
      std::vector<int64_t> seen;
      for (int64_t s = 0; s < batches.steps_per_epoch(); ++s) {
        const int64_t step = epoch * batches.steps_per_epoch() + s;
        EXPECT_LE(batches.micro_batches(step), 2);
        for (int64_t micro = 0; micro < batches.micro_batches(step); ++micro) {
          const auto examples = batches.examples(step, micro);
          EXPECT_TRUE(pack_length > 0 || examples.size() <= 2);
          seen.insert(seen.end(), examples.begin(), examples.end());
        }
      }
      EXPECT_EQ(seen.size(), 11u);
      EXPECT_EQ(std::set<int64_t>(seen.begin(), seen.end()).size(), 11u);
      epochs.push_back(seen);
    }
    EXPECT_NE(epochs[0], epochs[1]);
    int64_t most = 0;
    for (int64_t micro = 0; micro < batches.micro_batches(0); ++micro) {
      int64_t tokens = 0;
      for (const int64_t i : batches.examples(0, micro))
        tokens += static_cast<int64_t>(data.examples.train[i].ids.size());
      most = std::max(most, tokens);
    }
    EXPECT_EQ(batches.most_tokens(1), most);
    EXPECT_GE(batches.most_tokens(100), most);
    for (const int64_t in_front : {0, 5}) {
      EXPECT_GE(batches.most_tokens(int64_t{1} << 50, in_front), batches.most_tokens(100, in_front));
    }
    EXPECT_GE(batches.most_tokens(100, 5), batches.most_tokens(100) + 5);
  }
}

}  // namespace
}  // namespace llmtool
