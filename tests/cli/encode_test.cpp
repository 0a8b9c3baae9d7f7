// embed, classify and fill-mask, on the goldens' models.

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "support.h"

namespace llmtool {
namespace {

std::string golden(const char* name) {
  return test::source_file(std::string("tests/reference/goldens/") + name).string();
}

std::vector<nlohmann::json> rows_of(const std::string& text) {
  std::vector<nlohmann::json> rows;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) rows.push_back(nlohmann::json::parse(line));
  return rows;
}

const std::string kRows =
    "{\"prompt_ids\":[5,6,7,8,9],\"token_type_ids\":[0,0,1,1,1]}\n{\"prompt_ids\":[10]}\n"
    "{\"prompt_ids\":[3,3,4,60]}\n";

test::RunResult run(std::vector<std::string> arguments, const std::string& input = kRows) {
  arguments.insert(arguments.end(), {"--input-format", "jsonl"});
  return test::run_program("llmtool", arguments, input);
}

TEST(Embed, GivesTheReferencesVectorsInAnyBatch) {
  // transformers 5.23: AutoModel(...).last_hidden_state[0].mean(0)[:3], pooler_output[0][:3]
  const std::vector<std::vector<double>> mean = {{-0.1917159, 1.4295373, -0.1069296},
                                                 {0.0440347, 1.8292646, 0.5927167},
                                                 {-0.3238406, 1.2416817, 0.2067393}},
                                         pooled = {{0.2578103, 0.2594889, -0.0090131},
                                                   {0.3287681, 0.2765862, -0.0788299},
                                                   {0.1156956, 0.3327348, -0.5693631}};
  for (const auto& [pooling, expected] : {std::pair{"mean", mean}, {"pooler", pooled}}) {
    for (const char* batch : {"1", "2", "32"}) {
      const auto result =
          run({"embed", "--model", golden("bert"), "--pooling", pooling, "--batch-size", batch});
      ASSERT_EQ(result.code, 0) << result.err;
      const auto rows = rows_of(result.out);
      ASSERT_EQ(rows.size(), 3u);
      for (size_t r = 0; r < 3; ++r) {
        EXPECT_EQ(rows[r]["index"], r);
        for (size_t i = 0; i < 3; ++i)
          EXPECT_NEAR(rows[r]["embedding"][i].get<double>(), expected[r][i], 1e-5);
      }
    }
  }
}

TEST(Embed, NormalizedVectorsHaveLengthOne) {
  const auto rows = rows_of(run({"embed", "--model", golden("llama_gqa"), "--normalize"}).out);
  ASSERT_EQ(rows.size(), 3u);
  for (const auto& row : rows) {
    double square = 0;
    for (const double value : row["embedding"]) square += value * value;
    EXPECT_NEAR(square, 1, 1e-5);
  }
}

TEST(Info, OfAnEncoderHasNoStopIds) {
  const std::string bert = golden("bert_masked");
  const auto row = nlohmann::json::parse(test::run_program("llmtool", {"info", bert, "--json"}).out);
  EXPECT_EQ(row["head"], "masked language model");
  EXPECT_FALSE(row.contains("stop_ids"));
  EXPECT_EQ(test::run_program("llmtool", {"info", bert}).out.find("stop ids"), std::string::npos);
}

TEST(Embed, BadRowsAreNamedAndThoseBeforeAreAnswered) {
  for (const auto& [row, message] :
       {std::pair{"{\"prompt_ids\":[61]}", "text 2: token ids"},
        {"{\"prompt_ids\":[1],\"token_type_ids\":[3]}", "text 2: token_type_ids"},
        {"{\"prompt_ids\":[]}", "text 2: expected at least one token"},
        {"{\"prompt_ids\":[1,2],\"token_type_ids\":[0]}", "expected 2, found 1"},
        {"{\"prompt_ids\":[1],\"token_type_ids\":[0,0]}", "expected 1, found 2"}}) {
    const auto result =
        run({"embed", "--model", golden("bert")}, std::string("{\"prompt_ids\":[1]}\n") + row + "\n");
    EXPECT_EQ(result.code, 1);
    EXPECT_NE(result.err.find(message), std::string::npos) << result.err;
    EXPECT_EQ(rows_of(result.out).size(), 1u);
  }
  std::string ids = "1";
  for (int i = 0; i < 60; ++i) ids += ",1";
  const std::string long_row = "{\"prompt_ids\":[" + ids + "]}\n";
  EXPECT_EQ(run({"embed", "--model", golden("bert")}, long_row).code, 1);
  const auto cut = run({"embed", "--model", golden("bert"), "--truncate", "right"}, long_row);
  ASSERT_EQ(cut.code, 0) << cut.err;
  EXPECT_EQ(rows_of(cut.out)[0]["tokens"], 48);
}

TEST(Embed, DoesWhatASentenceTransformersFolderSays) {
  test::TempFolder place;
  std::filesystem::copy(golden("bert"), place / "model");
  std::filesystem::create_directories(place / "model/1_Pooling");
  const auto vector = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "embed");
    const auto result = run(arguments);
    EXPECT_EQ(result.code, 0) << result.err;
    return result.code == 0 ? rows_of(result.out)[0]["embedding"] : nlohmann::json();
  };
  const std::string model = (place / "model").string(), copy = (place / "copy").string();
  test::write_text(place / "model/1_Pooling/config.json", R"({"pooling_mode_cls_token": true})");
  const auto cls = vector({"--model", model});
  EXPECT_EQ(cls, vector({"--model", golden("bert"), "--pooling", "cls"}));
  EXPECT_NE(cls, vector({"--model", golden("bert"), "--pooling", "mean"}));
  test::write_text(place / "model/modules.json", R"([{"type": "sentence_transformers.models.Transformer"},)"
                                                 R"({"type": "sentence_transformers.models.Pooling"},)"
                                                 R"({"type": "sentence_transformers.models.Normalize"}])");
  const auto normal = vector({"--model", model});
  EXPECT_EQ(normal, vector({"--model", golden("bert"), "--pooling", "cls", "--normalize"}));
  ASSERT_EQ(test::run_program("llmtool", {"convert", model, copy}).code, 0);
  EXPECT_EQ(normal, vector({"--model", copy}));
  test::write_text(place / "model/modules.json", R"([{"type": "sentence_transformers.models.Dense"}])");
  EXPECT_EQ(run({"embed", "--model", model}).code, 1);
  test::write_text(place / "model/1_Pooling/config.json",
                   R"({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true})");
  EXPECT_EQ(run({"embed", "--model", model}).code, 1);
}

TEST(Embed, GivesTheSameVectorsFromGguf) {
  test::TempFolder place;
  std::filesystem::copy(golden("bert"), place / "model");
  std::filesystem::create_directories(place / "model/1_Pooling");
  test::write_text(place / "model/1_Pooling/config.json", R"({"pooling_mode_cls_token": true})");
  test::write_text(place / "model/modules.json", R"([{"type": "sentence_transformers.models.Transformer"},)"
                                                 R"({"type": "sentence_transformers.models.Pooling"},)"
                                                 R"({"type": "sentence_transformers.models.Normalize"}])");
  const auto expected = run({"embed", "--model", (place / "model").string()});
  ASSERT_EQ(expected.code, 0) << expected.err;
  for (const auto& [in, out] : {std::pair("model", "model.gguf"), {"model.gguf", "again"}}) {
    const auto converted =
        test::run_program("llmtool", {"convert", (place / in).string(), (place / out).string()});
    ASSERT_EQ(converted.code, 0) << converted.err;
    EXPECT_EQ(converted.err.find("the pooler is left out") != std::string::npos, in == std::string("model"));
    EXPECT_EQ(run({"embed", "--model", (place / out).string()}).out, expected.out) << out;
  }
  test::write_text(place / "model/modules.json", R"([{"type": "sentence_transformers.models.Dense"}])");
  const auto dense =
      test::run_program("llmtool", {"convert", (place / "model").string(), (place / "dense.gguf").string()});
  EXPECT_EQ(dense.code, 1);
  EXPECT_NE(dense.err.find("Dense is not supported"), std::string::npos) << dense.err;
}

TEST(Classify, GivesLabelsAndTheReferencesProbabilities) {
  const auto result = run({"classify", "--json", "--model", golden("bert_classifier")});
  ASSERT_EQ(result.code, 0) << result.err;
  const auto rows = rows_of(result.out);
  ASSERT_EQ(rows.size(), 3u);
  const double expected[3][3] = {{0.4566260, 0.2567813, 0.2865928},
                                 {0.4636600, 0.2584063, 0.2779337},
                                 {0.4502280, 0.2585582, 0.2912137}};
  for (size_t r = 0; r < 3; ++r) {
    EXPECT_EQ(rows[r]["label"], "bad");
    EXPECT_NEAR(rows[r]["scores"]["bad"].get<double>(), expected[r][0], 1e-5);
    EXPECT_NEAR(rows[r]["scores"]["fair"].get<double>(), expected[r][1], 1e-5);
    EXPECT_NEAR(rows[r]["scores"]["good"].get<double>(), expected[r][2], 1e-5);
  }
  EXPECT_EQ(run({"classify", "--model", golden("bert_classifier")}).out.substr(0, 4), "bad\t");
}

TEST(FillMask, NamesTheLikeliestTokensOfEachMask) {
  const auto result = run({"fill-mask", "--mask-id", "3", "--top-k", "2", "--model", golden("bert_masked")});
  ASSERT_EQ(result.code, 0) << result.err;
  const auto rows = rows_of(result.out);
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_TRUE(rows[0]["masks"].empty());
  const auto& masks = rows[2]["masks"];
  ASSERT_EQ(masks.size(), 2u);
  EXPECT_EQ(masks[0]["position"], 0);
  EXPECT_EQ(masks[0]["tokens"][0]["id"], 6);
  EXPECT_EQ(masks[0]["tokens"][1]["id"], 38);
  EXPECT_NEAR(masks[0]["tokens"][0]["probability"].get<double>(), 0.0364, 1e-4);
  EXPECT_EQ(masks[1]["tokens"][0]["id"], 38);
  EXPECT_NEAR(masks[1]["tokens"][0]["probability"].get<double>(), 0.0477, 1e-4);
}

TEST(Encoders, AreRefusedWhereTheyDoNotFit) {
  test::TempFolder place;
  const std::vector<std::vector<std::string>> wrong = {
      {"generate", "--model", golden("bert_masked"), "x"},
      {"classify", "--model", golden("bert"), "x"},
      {"fill-mask", "--mask-id", "1", "--model", golden("llama_gqa"), "x"},
      {"fill-mask", "--model", golden("bert_masked"), "x"},
      {"fill-mask", "--mask-id", "61", "--model", golden("bert_masked"), "x"},
      {"embed", "--pooling", "pooler", "--model", golden("bert_masked"), "x"},
      {"convert", golden("bert_masked"), (place / "out.gguf").string()}};
  for (const auto& arguments : wrong) {
    const auto result = test::run_program("llmtool", arguments);
    EXPECT_EQ(result.code, 2) << arguments[0] << ": " << result.err;
    EXPECT_FALSE(result.err.empty());
  }
}

}  // namespace
}  // namespace llmtool
