// Adapters on the command line: generate, embed, classify, merge, convert.

#include "llmtool/peft/adapter.h"

#include "llmtool/io/gguf.h"
#include "llmtool/io/safetensors.h"
#include "llmtool/model/transformer.h"
#include "run_fixture.h"

namespace llmtool {
namespace {

using nlohmann::json;
using test::Arguments;
using test::json_rows;
using test::read_text;
using test::run_program;
using test::RunResult;
namespace fs = std::filesystem;

class AdapterTools : public ::testing::Test {
 protected:
  static fs::path golden(const std::string& name) {
    return test::source_file("tests/reference/goldens_peft") / name;
  }
  static std::string adapter(const std::string& name) { return (golden(name) / "trained").string(); }
  static std::string base(const std::string& name) {
    const json about = json::parse(read_text(golden(name) / "golden.json"));
    return fs::weakly_canonical(golden(name) / about.at("base").get<std::string>()).string();
  }
  std::string path(const std::string& name) const { return (place / name).string(); }

  RunResult llmtool(Arguments arguments, const std::string& input = "") const {
    return run_program("llmtool", arguments, input);
  }
  /// Twelve greedy tokens behind the prompt of answers.json.
  json answer(const std::string& model, const Arguments& more = {}) const {
    Arguments arguments = {"generate",     "--model",        model,  "-n",
                           "12",           "--temperature",  "0",    "--json",
                           "--ignore-eos", "--input-format", "jsonl"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const RunResult r = llmtool(arguments, json{{"prompt_ids", answers.at("prompt")}}.dump());
    EXPECT_EQ(r.code, 0) << r.err;
    return r.code == 0 ? json::parse(r.out) : json();
  }
  json expected(const std::string& name) const { return answers.at("answers").at(name); }

  test::TempFolder place;
  json answers = json::parse(read_text(golden("answers.json")));
};

TEST_F(AdapterTools, GenerateGoesOnAsPeftDoes) {
  for (const char* name : {"llama_gqa_lora", "gpt2_dora", "gpt2_prefix_tuning", "falcon_40b_prefix_tuning",
                           "llama_gqa_prompt_tuning", "gpt2_adaption_prompt", "qwen3_ia3"}) {
    const json row = answer(base(name), {"--adapter", adapter(name)});
    EXPECT_EQ(row["ids"], expected(name)["ids"]) << name;
    EXPECT_EQ(row["prompt_ids"], answers["prompt"]) << name;
  }
}

TEST_F(AdapterTools, ARunFolderOrItsCheckpointIsAnAdapterToo) {
  const std::string name = "llama_gqa_lora";
  fs::create_directories(place / "run/checkpoints/step-4");
  fs::copy(adapter(name), place / "run/adapter");
  fs::copy(adapter(name), place / "run/checkpoints/step-4/adapter");
  for (const char* folder : {"run", "run/checkpoints/step-4"})
    EXPECT_EQ(answer(base(name), {"--adapter", path(folder)})["ids"], expected(name)["ids"]) << folder;
}

TEST_F(AdapterTools, ScalesMultiplyWhatALowRankAdapterChanges) {
  const std::string lora = adapter("llama_gqa_lora"), model = base("llama_gqa_lora");
  EXPECT_EQ(answer(model, {"--adapter", lora + "=0"})["logprobs"], answer(model)["logprobs"]);
  const json twice = answer(model, {"--adapter", lora + "=0.5", "--adapter", lora + "=0.5"});
  const json once = answer(model, {"--adapter", lora});
  EXPECT_EQ(twice["ids"], once["ids"]);
  for (size_t i = 0; i < once["logprobs"].size(); ++i)
    EXPECT_NEAR(twice["logprobs"][i].get<double>(), once["logprobs"][i].get<double>(), 1e-5);
  EXPECT_NE(answer(model, {"--adapter", lora + "=3"})["logprobs"], once["logprobs"]);
}

TEST_F(AdapterTools, ClassifyUsesTheHeadThatAnAdapterBrings) {
  for (const char* name : {"llama_classifier_lora", "bert_classifier_ia3"}) {
    const SafetensorsFile file(golden(name) / "golden.safetensors");
    const auto* ids = static_cast<const int32_t*>(file.tensors().at("ids").data);
    const auto length = static_cast<const int32_t*>(file.tensors().at("lengths").data)[0];
    const auto* logits = static_cast<const float*>(file.tensors().at("logits_trained").data);
    const std::string row = json{{"prompt_ids", std::vector<int32_t>(ids, ids + length)}}.dump();
    const RunResult r = llmtool(
        {"classify", "--model", base(name), "--adapter", adapter(name), "--json", "--input-format", "jsonl"},
        row);
    ASSERT_EQ(r.code, 0) << r.err;
    const json found = json::parse(r.out);
    for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(found["logits"][i].get<double>(), logits[i], 1e-4) << name;
  }
}

TEST_F(AdapterTools, LabelsBesideAnAdapterAreTheHeads) {
  const std::string name = "llama_classifier_lora";
  fs::copy(adapter(name), place / "named");
  test::write_text(place / "named/labels.json", R"(["bad", "fair", "good"])");
  const Arguments classify = {"classify",    "--model", base(name),       "--adapter",
                              path("named"), "--json",  "--input-format", "jsonl"};
  const std::string row = R"({"prompt_ids": [5, 6, 7]})";
  const RunResult r = llmtool(classify, row);
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_TRUE(json::parse(r.out)["scores"].contains("fair")) << r.out;
  test::write_text(place / "named/labels.json", R"(["bad", "good"])");
  const RunResult wrong = llmtool(classify, row);
  EXPECT_EQ(wrong.code, 1);
  EXPECT_SAYS(wrong.err, "labels.json: expected a list of the head's 3 labels");
}

TEST_F(AdapterTools, VectorsAreOfTheTextNotOfAPrefix) {
  const std::string name = "llama_gqa_prefix_tuning";
  json vectors;
  for (const char* pooling : {"mean", "last", "cls"}) {
    const RunResult r = llmtool({"embed", "--model", base(name), "--adapter", adapter(name), "--pooling",
                                 pooling, "--input-format", "jsonl"},
                                R"({"prompt_ids": [5]})");
    ASSERT_EQ(r.code, 0) << r.err;
    const json row = json::parse(r.out);
    EXPECT_EQ(row["tokens"], 1);
    vectors[pooling] = row["embedding"];
  }
  EXPECT_EQ(vectors["mean"], vectors["last"]);
  EXPECT_EQ(vectors["cls"], vectors["last"]);
}

TEST_F(AdapterTools, MergedModelsGoOnAsWithTheAdapter) {
  for (const char* name : {"llama_gqa_lora", "gpt2_dora", "gpt2_ia3", "qwen3_adalora", "gemma2_lora_tied",
                           "llama_gqa_lora_embedding", "gemma2_lora_embedding_only", "gpt2_pissa"}) {
    for (const char* to : {"hf", "gguf"}) {
      const std::string out = path(std::string(name) + "_" + to);
      const RunResult r = llmtool({"merge", "--model", base(name), "--adapter", adapter(name), "--output",
                                   out, "--to", to, "--json"});
      if (r.code == 2 && r.err.find("llama.cpp has no such model") != std::string::npos) {
        EXPECT_FALSE(fs::exists(out)) << name;
        continue;
      }
      ASSERT_EQ(r.code, 0) << name << " " << to << ": " << r.err;
      const json report = json::parse(r.out);
      EXPECT_LT(report["verify"]["greatest_logit_difference"], report["verify"]["limit"]) << r.out;
      EXPECT_EQ(answer(out)["ids"], expected(name)["ids"]) << name << " " << to;
    }
  }
}

TEST_F(AdapterTools, MergesSeveralByWeight) {
  const std::string name = "llama_gqa_lora", model = base(name), first = adapter(name) + "=0.75";
  const std::string second = adapter("llama_gqa_rslora") + "=-0.5";
  const RunResult r = llmtool({"merge", "--model", model, "--adapter", first, "--adapter", second, "--output",
                               path("merged"), "--json"});
  ASSERT_EQ(r.code, 0) << r.err;
  const json merged = answer(path("merged")),
             beside = answer(model, {"--adapter", first, "--adapter", second});
  EXPECT_EQ(merged["ids"], beside["ids"]);
  EXPECT_NEAR(merged["logprobs"][0].get<double>(), beside["logprobs"][0].get<double>(), 1e-5);
  const RunResult refused = llmtool({"merge", "--model", model, "--adapter", first, "--adapter",
                                     adapter("llama_gqa_dora"), "--output", path("none")});
  EXPECT_EQ(refused.code, 2) << "magnitudes stand alone";
  EXPECT_FALSE(fs::exists(place / "none"));
}

TEST_F(AdapterTools, ScalesMultiplyTheChangeOfWhatIsBroughtWhole) {
  for (const std::string name : {"gpt2_lora_bias_all", "llama_gqa_lora_modules_to_save"}) {
    const std::string model = base(name), half = adapter(name) + "=0.5";
    EXPECT_EQ(answer(model, {"--adapter", adapter(name) + "=0"})["logprobs"], answer(model)["logprobs"]);
    const RunResult r =
        llmtool({"merge", "--model", model, "--adapter", half, "--output", path(name), "--json"});
    ASSERT_EQ(r.code, 0) << r.err;
    const SafetensorsFile before(fs::path(model) / "model.safetensors"),
        merged(place / name / "model.safetensors");
    const SafetensorsFile own(fs::path(adapter(name)) / "adapter_model.safetensors");
    int whole = 0;
    for (const auto& [file_name, tensor] : own.tensors()) {
      if (file_name.find(".lora_") != std::string::npos) continue;
      std::string parameter = file_name.substr(std::string_view("base_model.model.").size());
      if (const size_t at = parameter.find(".base_layer"); at != std::string::npos)
        parameter.erase(at, std::string_view(".base_layer").size());
      const auto values = [&](const SafetensorsFile& file) {
        return static_cast<const float*>(file.tensors().at(parameter).data);
      };
      const auto* const to = static_cast<const float*>(tensor.data);
      for (int64_t i = 0; i < tensor.size(); ++i)
        ASSERT_NEAR(values(merged)[i], (values(before)[i] + to[i]) / 2, 1e-6) << parameter;
      ++whole;
    }
    EXPECT_GT(whole, 0);
    const json one = answer(path(name)), beside = answer(model, {"--adapter", half});
    EXPECT_EQ(one["ids"], beside["ids"]);
    for (size_t i = 0; i < one["logprobs"].size(); ++i)
      EXPECT_NEAR(one["logprobs"][i].get<double>(), beside["logprobs"][i].get<double>(), 1e-5);
    const RunResult twice =
        llmtool({"merge", "--model", model, "--adapter", half, "--adapter", half, "--output", path("twice")});
    EXPECT_EQ(twice.code, 2);
    EXPECT_SAYS(twice.err, "two that replace");
  }
}

TEST_F(AdapterTools, AMergeOfTwoIsTheBaseAndBothChanges) {
  const std::string model = base("gpt2_lora");
  const Arguments both = {"--adapter", adapter("gpt2_lora") + "=2", "--adapter",
                          adapter("gpt2_lora_bias_all") + "=0.5"};
  Arguments merge = {"merge", "--model", model, "--output", path("merged"), "--json"};
  merge.insert(merge.end(), both.begin(), both.end());
  const RunResult r = llmtool(merge);
  ASSERT_EQ(r.code, 0) << r.err;
  const json merged = answer(path("merged")), beside = answer(model, both);
  EXPECT_EQ(merged["ids"], beside["ids"]);
  for (size_t i = 0; i < merged["logprobs"].size(); ++i)
    EXPECT_NEAR(merged["logprobs"][i].get<double>(), beside["logprobs"][i].get<double>(), 1e-5);
}

TEST_F(AdapterTools, ValuesThatPeftWritesTwiceAreReadOnce) {
  const std::string name = "bert_classifier_ia3";
  const Arguments classify = {"classify",       "--model", base(name), "--json",
                              "--input-format", "jsonl",   "--adapter"};
  const auto answer_of = [&](const std::string& folder) {
    Arguments arguments = classify;
    arguments.push_back(folder);
    return llmtool(arguments, R"({"prompt_ids": [5, 6, 7]})");
  };
  const SafetensorsFile file(fs::path(adapter(name)) / "adapter_model.safetensors");
  std::vector<NamedTensor> tensors;
  for (const auto& [tensor_name, tensor] : file.tensors())
    tensors.push_back({tensor_name, tensor, DType::f32});
  std::vector<float> others = {100, 200, 300};
  const auto add = [&](const std::string& more) {
    tensors.push_back({"base_model.model." + more, Tensor(others.data(), {3}), DType::f32});
    fs::create_directories(place / "twice");
    fs::copy_file(fs::path(adapter(name)) / "adapter_config.json", place / "twice/adapter_config.json",
                  fs::copy_options::overwrite_existing);
    write_safetensors(place / "twice/adapter_model.safetensors", tensors, {{"format", "pt"}});
  };
  // With bias "all", of a head that is among modules_to_save.
  add("classifier.modules_to_save.bias");
  add("classifier.original_module.bias");
  const RunResult r = answer_of(path("twice"));
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(json::parse(r.out)["logits"], json::parse(answer_of(adapter(name)).out)["logits"]);
  add("nothing.modules_to_save.bias");
  EXPECT_SAYS(answer_of(path("twice")).err, "has no such tensor");
}

using AdapterOfRun = test::RunTest;

TEST_F(AdapterOfRun, MagnitudesAreOfTheWeightThatIsThere) {
  train(1);
  for (const bool dora : {false, true}) {
    Transformer model = load_transformer(place / "run");
    AdapterConfig lora;
    lora.peft_type = "LORA";
    lora.use_dora = dora;
    lora.target_modules.names = {dora ? "q_proj" : "v_proj"};
    if (!dora) lora.modules_to_save = {"q_proj"};
    Adapter made(model, lora);
    made.initialize(3);
    made.save(place / (dora ? "dora" : "whole"), "run");
  }
  for (const auto& [first, second] : {std::pair("dora", "whole"), {"whole", "dora"}}) {
    const RunResult r = run_program("llmtool", {"merge", "--model", path("run"), "--adapter", path(first),
                                                "--adapter", path(second), "--output", path("merged")});
    EXPECT_EQ(r.code, 2) << r.err;
    EXPECT_SAYS(r.err, "one with its magnitudes");
  }
}

TEST_F(AdapterOfRun, IsMergedOverAQuantizedBaseWithItsTokenizer) {
  config["tokenizer"] = {{"model_type", "bpe"}, {"vocab_size", 300}};
  const RunResult trained = pretrain("run");
  ASSERT_EQ(trained.code, 0) << trained.err;
  {
    Transformer model = load_transformer(place / "run");
    AdapterConfig lora;
    lora.peft_type = "LORA";
    lora.init_lora_weights = "false";  // it changes the model
    Adapter made(model, lora);
    made.initialize(3);
    made.save(place / "adapter", "run");
  }
  const auto llmtool = [](const Arguments& arguments) { return run_program("llmtool", arguments); };
  const std::string small = path("small.gguf");
  ASSERT_EQ(llmtool({"convert", path("run"), small, "--dtype", "q8_0"}).code, 0);
  const RunResult r = llmtool({"merge", "--model", small, "--adapter", path("adapter"), "--output",
                               path("merged"), "--verify", path("text.txt"), "--json"});
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(json::parse(r.out)["dtype"], "f32");
  EXPECT_LT(json::parse(r.out)["verify"]["greatest_logit_difference"], 1e-4) << r.out;
  const auto answer = [&](Arguments arguments) {
    arguments.insert(arguments.begin(), {"generate", "--temperature", "0", "-n", "20", "the cat", "a dog"});
    return llmtool(arguments).out;
  };
  const std::string with = answer({"--model", small, "--adapter", path("adapter")});
  EXPECT_EQ(answer({"--model", path("merged")}), with);
  EXPECT_NE(answer({"--model", small}), with);
}

TEST_F(AdapterTools, WhatNoWeightHoldsIsRefusedBeforeAnythingIsWritten) {
  for (const char* name : {"gpt2_prefix_tuning", "llama_gqa_prompt_tuning", "gpt2_adaption_prompt"}) {
    const RunResult r =
        llmtool({"merge", "--model", base(name), "--adapter", adapter(name), "--output", path("merged")});
    EXPECT_EQ(r.code, 2) << r.err;
    EXPECT_SAYS(r.err, "no weight can hold it");
    EXPECT_FALSE(fs::exists(place / "merged"));
  }
  const RunResult scaled = llmtool({"merge", "--model", base("gpt2_ia3"), "--adapter",
                                    adapter("gpt2_ia3") + "=2", "--output", path("merged")});
  EXPECT_EQ(scaled.code, 2);
  EXPECT_SAYS(scaled.err, "a scale is for low-rank adapters");
  EXPECT_FALSE(fs::exists(place / "merged"));
}

TEST_F(AdapterTools, ConvertWritesAnAdapterForLlamaCpp) {
  const std::string name = "llama_gqa_rslora";
  const RunResult r = llmtool({"convert", adapter(name), path("adapter.gguf"), "--model", base(name)});
  ASSERT_EQ(r.code, 0) << r.err;
  const GgufFile file(place / "adapter.gguf");
  EXPECT_EQ(file.metadata().string("general.type"), "adapter");
  EXPECT_EQ(file.metadata().string("adapter.type"), "lora");
  EXPECT_NEAR(file.metadata().number("adapter.lora.alpha"), 12, 1e-6) << "6 sqrt(4)";
  EXPECT_EQ(file.tensors().at("blk.0.attn_q.weight.lora_a").shape[0], 4);
  EXPECT_EQ(file.tensors().at("blk.0.attn_q.weight.lora_b").shape[1], 4);
  for (const char* other : {"llama_gqa_dora", "gpt2_ia3", "gpt2_lora_bias_all", "gpt2_prefix_tuning",
                            "llama_gqa_lora_modules_to_save", "llama_classifier_lora"}) {
    const RunResult no = llmtool({"convert", adapter(other), path("no.gguf"), "--model", base(other)});
    EXPECT_EQ(no.code, 2) << other << no.err;
    EXPECT_FALSE(fs::exists(place / "no.gguf")) << other;
  }
}

TEST_F(AdapterTools, WrongRequestsAreUsageErrors) {
  const std::string lora = adapter("llama_gqa_lora"), model = base("llama_gqa_lora");
  const auto refused = [&](const Arguments& arguments, const char* said) {
    const RunResult r = llmtool(arguments, R"({"prompt_ids": [1]})");
    EXPECT_EQ(r.code, 2) << r.err;
    EXPECT_SAYS(r.err, said);
  };
  refused({"generate", "--model", model, "--adapter", path("nothing")}, "found nothing there");
  refused({"generate", "--model", model, "--adapter", lora + "=much"}, "expected a number behind =");
  refused({"generate", "--model", model, "--adapter", adapter("llama_gqa_ia3") + "=2"}, "low-rank");
  refused({"generate", "--model", base("gpt2_lora"), "--adapter", lora}, "adapter_config.json");
  refused({"merge", "--model", model, "--adapter", lora, "--output", lora}, "another place");
  refused({"merge", "--model", model, "--output", path("x")}, "--adapter");
  fs::create_directories(place / "thesis");
  test::write_text(place / "thesis" / "chapter.txt", "of somebody else");
  refused({"merge", "--model", model, "--adapter", lora, "--output", path("thesis")}, "found other files");
  refused({"merge", "--model", model, "--adapter", lora, "--output", path("x"), "--dtype", "q8_0"},
          "--dtype");
  refused({"convert", lora, path("x.gguf")}, "--model: expected the base");
  refused({"convert", model, path("x.gguf"), "--model", model}, "expected a PEFT folder");
}

}  // namespace
}  // namespace llmtool
