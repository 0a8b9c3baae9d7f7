// info and convert: from one format to another and back.

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

class Convert : public test::RunTest {
 protected:
  void SetUp() override {
    RunTest::SetUp();
    config["tokenizer"] = {{"model_type", "bpe"}, {"vocab_size", 300}};
    const RunResult r = pretrain("run");
    ASSERT_EQ(r.code, 0) << r.err;
  }
  RunResult llmtool(Arguments arguments) const { return run_program("llmtool", arguments); }
  std::string answer(const std::string& model) const {
    const RunResult r = run_program(
        "generate", {"--model", path(model), "--temperature", "0", "-n", "20", "the cat", "a dog"});
    EXPECT_EQ(r.code, 0) << r.err;
    return r.out;
  }
};

TEST_F(Convert, GoesToGgufAndBackWithoutALoss) {
  for (const auto& [in, out] : {std::pair("run", "model.gguf"), {"model.gguf", "again"}}) {
    const RunResult r =
        llmtool({"convert", path(in), path(out), "--verify", path("text.txt"), "--json", "--dtype", "f32"});
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(json::parse(r.out)["verify"]["greatest_logit_difference"], 0.0) << r.out;
    EXPECT_EQ(answer(out), answer("run"));
  }
  EXPECT_EQ(read_text(place / "again/model.safetensors").size(),
            read_text(place / "run/model/model.safetensors").size());
}

TEST_F(Convert, SmallerTypesStayClose) {
  for (const auto& [dtype, most] : {std::pair("f16", 0.01), {"bf16", 0.1}, {"q8_0", 0.1}}) {
    const RunResult r = llmtool({"convert", path("run"), path(std::string(dtype) + ".gguf"), "--dtype", dtype,
                                 "--verify", path("text.txt"), "--json"});
    ASSERT_EQ(r.code, 0) << r.err;
    const double difference = json::parse(r.out)["verify"]["greatest_logit_difference"];
    EXPECT_GT(difference, 0) << dtype;
    EXPECT_LT(difference, most) << dtype;
  }
  EXPECT_EQ(llmtool({"convert", path("run"), path("half"), "--dtype", "bf16"}).code, 0);
  const RunResult info = llmtool({"info", path("half"), "--json"});
  EXPECT_EQ(json::parse(info.out)["dtype"], "bf16");
}

TEST_F(Convert, InfoSaysWhatAModelIs) {
  const RunResult text = llmtool({"info", path("run")});
  ASSERT_EQ(text.code, 0) << text.err;
  for (const char* said :
       {"llama", "2 layers of 32", "4 heads of 8, 2 for keys and values", "300 pieces", "to train"}) {
    EXPECT_SAYS(text.out, said);
  }
  const json row =
      json::parse(llmtool({"info", path("run"), "--json", "--context", "32", "--batch-size", "2"}).out);
  int64_t sum = 0;
  for (const auto& [part, n] : row["parameters_by_part"].items()) sum += n.get<int64_t>();
  EXPECT_EQ(row["parameters"], sum);
  EXPECT_EQ(row["memory"]["context"], 32);
  EXPECT_GT(row["memory"]["train_full"], row["memory"]["train_lora"]);
  EXPECT_GT(row["memory"]["train_lora"], row["memory"]["run"]);
}

TEST_F(Convert, WrongRequestsAndBadFilesAreToldApart) {
  EXPECT_EQ(llmtool({"info", path("nothing")}).code, 2);
  EXPECT_EQ(llmtool({"convert", path("run"), path("out"), "--dtype", "q8_0"}).code, 2);
  EXPECT_EQ(llmtool({"convert", path("run"), path("run")}).code, 2);
  write_text(place / "bad.gguf", "GGUF and no more");
  const RunResult bad = llmtool({"info", path("bad.gguf")});
  EXPECT_EQ(bad.code, 1);
  EXPECT_SAYS(bad.err, "bad.gguf");
  fs::remove(place / "run/model/model.safetensors");
  write_text(place / "run/model/pytorch_model.bin", "");
  const RunResult pickle = llmtool({"info", path("run")});
  EXPECT_EQ(pickle.code, 1);
  EXPECT_SAYS(pickle.err, "pickle");
}

}  // namespace
}  // namespace llmtool
