#include "llmtool/io/safetensors.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "formats.h"
#include "llmtool/core/error.h"
#include "support.h"

namespace llmtool {
namespace {

TEST(Safetensors, HostileFilesGetTheirVerdict) {
  REQUIRE_REFERENCE(folder, "malformed/safetensors");
  std::ifstream list(folder / "EXPECT.tsv");
  int files = 0;
  for (std::string line; std::getline(list, line); ++files) {
    std::istringstream fields(line);
    std::string name, bytes, verdict;
    std::getline(fields, name, '\t');
    std::getline(fields, bytes, '\t');
    std::getline(fields, verdict, '\t');
    if (verdict == "accept") {
      EXPECT_NO_THROW(SafetensorsFile(folder / name)) << name;
    } else {
      EXPECT_THROW(SafetensorsFile(folder / name), Error) << name;
    }
  }
  EXPECT_GT(files, 10);
}

TEST(Safetensors, EveryPrefixOfAFileIsRefused) {
  test::TempFolder folder;
  std::vector<float> values = {1, 2, 3, 4, 5, 6};
  write_safetensors(folder / "x.safetensors", {{"a", Tensor(values.data(), {2, 3}), DType::f32}},
                    {{"format", "pt"}});
  const std::string whole = test::read_text(folder / "x.safetensors");
  for (size_t n = 0; n < whole.size(); ++n) {
    test::write_text(folder / "cut.safetensors", whole.substr(0, n));
    EXPECT_THROW(SafetensorsFile(folder / "cut.safetensors"), Error) << n;
  }
}

TEST(Safetensors, WhatIsWrittenIsRead) {
  test::TempFolder folder;
  std::vector<float> values = {1, 2, 3, 4.0009765625f, 5, -6};
  write_safetensors(folder / "x.safetensors",
                    {{"f32", Tensor(values.data(), {2, 3}), DType::f32},
                     {"turned", Tensor(values.data(), {2, 3}), DType::f32, true},
                     {"bf16", Tensor(values.data(), {6}), DType::bf16},
                     {"f16", Tensor(values.data(), {6}), DType::f16}},
                    {{"format", "pt"}});
  const SafetensorsFile file(folder / "x.safetensors");
  EXPECT_EQ(file.metadata().at("format"), "pt");
  const Tensor turned = file.tensors().at("turned");
  EXPECT_EQ(turned.shape, Shape({3, 2}));
  EXPECT_EQ(turned.f32()[1], 4.0009765625f);
  const Tensor half = file.tensors().at("f16");
  EXPECT_EQ(static_cast<float>(static_cast<const Eigen::half*>(half.data)[3]), 4.0f);  // a tie goes to even
  const Tensor brain = file.tensors().at("bf16");
  EXPECT_EQ(static_cast<float>(static_cast<const Eigen::bfloat16*>(brain.data)[5]), -6.0f);
}

TEST(Safetensors, EightBitFloatsAreReadable) {
  const test::MemoryFile memory(test::sample_safetensors());
  const SafetensorsFile file(memory.path());
  EXPECT_EQ(file.tensors().at("d").dtype, DType::f8_e4m3);
  EXPECT_EQ(file.tensors().at("e").dtype, DType::f8_e5m2);
  EXPECT_EQ(file.tensors().at("e").shape, Shape({6}));
}

/// A folder of two shards and their index.
class Shards : public ::testing::Test {
 protected:
  Shards() {
    for (const std::string& name : {std::string("a"), std::string("b")})
      write_safetensors(folder_ / (name + ".safetensors"), {{name, Tensor(&value_, {1}), DType::f32}}, {});
  }
  std::string opening(const std::string& map) {
    test::write_text(folder_ / "model.safetensors.index.json",
                     R"({"metadata": {}, "weight_map": )" + map + "}");
    try {
      const SafetensorsFolder opened(folder_.path());
      return std::to_string(opened.tensors().size()) + " tensors";
    } catch (const Error& e) {
      return e.what();
    }
  }
  float value_ = 1;
  test::TempFolder folder_;
};

TEST_F(Shards, AreReadAsOne) {
  EXPECT_EQ(opening(R"({"a": "a.safetensors", "b": "b.safetensors"})"), "2 tensors");
}

TEST_F(Shards, AWrongIndexIsRefused) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"a": "b.safetensors"})", "a: expected in b.safetensors, found no such tensor there"},
      {R"({"a": "c.safetensors"})", "cannot be opened"},
      {R"({"a": "../a.safetensors"})", "is no file name"},
      {R"({"a": ".."})", "is no file name"},
      {R"({"a": 3})", "expected a string"},
      {"[]", "expected an object"}};
  for (const auto& [map, part] : cases)
    EXPECT_NE(opening(map).find(part), std::string::npos) << map << ": " << opening(map);
}

TEST(SafetensorsFolder, NamesWhatItCannotRead) {
  test::TempFolder folder;
  const std::string header = R"({"mask":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]},)"
                             R"("deep":{"dtype":"F16","shape":[1,1,1,1,1],"data_offsets":[2,4]}})";
  const uint64_t length = header.size();
  std::string file(reinterpret_cast<const char*>(&length), sizeof length);
  test::write_text(folder / "model.safetensors", file + header + std::string(4, '\0'));
  const SafetensorsFolder opened(folder.path());
  EXPECT_EQ(opened.unreadable().at("mask"), "BOOL");
  EXPECT_EQ(opened.unreadable().at("deep"), "F16 of 5 dimensions");
  EXPECT_TRUE(opened.tensors().empty());
}

}  // namespace
}  // namespace llmtool
