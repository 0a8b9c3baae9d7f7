#include "llmtool/io/safetensors.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

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

}  // namespace
}  // namespace llmtool
