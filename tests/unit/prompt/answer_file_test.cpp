// A table of answers, however its writing ends.

#include "llmtool/prompt/answer_file.h"

#include <gtest/gtest.h>

#include <fstream>

#include "llmtool/core/error.h"
#include "llmtool/io/json_text.h"
#include "support.h"

namespace llmtool {
namespace {

using Json = nlohmann::ordered_json;
using test::read_text;
using test::write_text;

const Json kSettings = {{"model", "m"}, {"temperature", 0.8}};

class Answers : public ::testing::TestWithParam<const char*> {
 protected:
  std::filesystem::path path() const { return place / (std::string("answers") + GetParam()); }
  Json row(int64_t i) const {
    return {
        {"index", i}, {"text", "a \"quoted\", text,\nof two lines " + std::to_string(i)}, {"none", nullptr}};
  }
  void write(int64_t from, int64_t to) const {
    AnswerFile file(path(), kSettings, false);
    EXPECT_EQ(file.rows(), from);
    for (int64_t i = from; i < to; ++i) file.append(row(i));
  }
  test::TempFolder place;
};

TEST_P(Answers, GoOnAndReadBack) {
  write(0, 3);
  write(3, 5);
  AnswerFile file(path(), kSettings, false);
  ASSERT_EQ(file.rows(), 5);
  for (int64_t i = 0; i < 5; ++i) {
    const Json made = row(i);
    for (const auto& [name, value] : made.items())
      EXPECT_EQ(plain_text(file.row(i)[name]), plain_text(value)) << name;
  }
}

/// Whatever byte the file ends at, what is made of it is what an unbroken run makes.
TEST_P(Answers, ATornRowIsWrittenAgain) {
  write(0, 3);
  const std::string whole = read_text(path());
  for (size_t cut = 0; cut < whole.size(); ++cut) {
    write_text(path(), whole.substr(0, cut));
    int64_t done = 0;
    {
      AnswerFile file(path(), kSettings, false);
      done = file.rows();
      EXPECT_LT(done, 3);
    }
    write(done, 3);
    EXPECT_EQ(read_text(path()), whole) << cut;
  }
}

TEST_P(Answers, OfOtherSettingsAreRefused) {
  write(0, 2);
  Json other = kSettings;
  other["temperature"] = 0.7;
  try {
    AnswerFile file(path(), other, false);
    FAIL();
  } catch (const UsageError& e) {
    const std::string said = e.what();
    for (const char* part : {"temperature", "0.8", "0.7", "--overwrite"})
      EXPECT_NE(said.find(part), std::string::npos) << said;
  }
  {
    AnswerFile file(path(), other, true);
    EXPECT_EQ(file.rows(), 0);
    file.truncate(0);
  }
  { EXPECT_EQ(AnswerFile(path(), kSettings, false).rows(), 2) << "nothing took the place of what was there"; }
  {
    AnswerFile file(path(), other, true);
    file.append(row(7));
    EXPECT_EQ(plain_text(file.row(0)["index"]), "7");
  }
  { EXPECT_EQ(AnswerFile(path(), other, false).rows(), 1); }
  { AnswerFile(path(), kSettings, true).sync(); }
  EXPECT_EQ(read_text(path()), "") << "a run without rows is one, too";
  { EXPECT_EQ(AnswerFile(path(), kSettings, false).rows(), 0); }
  { AnswerFile(path(), other, true).begin(); }
  { EXPECT_EQ(AnswerFile(path(), other, false).rows(), 0); }
  write_text(path(), "somebody's file\n");
  std::filesystem::remove(path().string() + ".run.json");
  EXPECT_THROW(AnswerFile(path(), kSettings, false), UsageError);
  EXPECT_EQ(read_text(path()), "somebody's file\n");
}

TEST_P(Answers, OneRunAtATime) {
  AnswerFile file(path(), kSettings, false);
  EXPECT_THROW(AnswerFile(path(), kSettings, false), Error);
}

INSTANTIATE_TEST_SUITE_P(Formats, Answers, ::testing::Values(".jsonl", ".csv"),
                         [](const auto& p) { return std::string(p.param + 1); });

TEST(AnswerFileCsv, AColumnWithoutAHeadingIsAnError) {
  const test::TempFolder place;
  AnswerFile file(place / "a.csv", kSettings, false);
  file.append({{"a", 1}, {"b", 2}});
  EXPECT_THROW(file.append({{"a", 1}, {"c", 2}}), Error);
  file.append({{"b", "x,y"}});
  EXPECT_EQ(read_text(place / "a.csv"), "a,b\n1,2\n,\"x,y\"\n");
}

}  // namespace
}  // namespace llmtool
