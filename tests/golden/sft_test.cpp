// Rows for fine-tuning against TRL (tests/reference/make_sft_goldens.py).

#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "llmtool/data/examples.h"
#include "support.h"

namespace llmtool {
namespace {

std::filesystem::path folder() {
  const char* given = std::getenv("LLMTOOL_SFT_GOLDENS");
  return given ? std::filesystem::path(given) : test::source_file("tests/reference/goldens_sft");
}

class Sft : public testing::TestWithParam<std::string> {};

TEST_P(Sft, GivesTheIdsAndMasksOfTheReference) {
  const auto place = folder() / GetParam();
  const auto tokenizer = load_tokenizer(place);
  ThreadPool pool(2);
  const auto cases = nlohmann::ordered_json::parse(test::read_text(place / "cases.json"));
  ASSERT_FALSE(cases.empty());
  for (const auto& golden : cases) {
    SCOPED_TRACE(golden["kind"].get<std::string>() + ", " + golden["loss_on"].get<std::string>() + ", " +
                 golden["max_length"].dump());
    const test::TempFolder temporary;
    test::write_text(temporary / "rows.json", golden["rows"].dump());
    ExampleOptions options;
    options.data.train = {{(temporary / "rows.json").string(), 0}};
    options.loss_on = loss_on_of(golden["loss_on"].get<std::string>());
    options.max_length = golden["max_length"].get<int64_t>();
    const ExampleSet set = load_examples(pool, *tokenizer, options).train;
    ASSERT_EQ(set.size(), static_cast<int64_t>(golden["examples"].size()));
    for (int64_t i = 0; i < set.size(); ++i) {
      const auto& expected = golden["examples"][static_cast<size_t>(i)];
      const std::vector<TokenId> ids(set[i].ids.begin(), set[i].ids.end());
      std::string trained;
      for (const uint8_t t : set[i].trained) trained += t ? '1' : '0';
      EXPECT_EQ(ids, expected["ids"].get<std::vector<TokenId>>()) << set.origin(i);
      EXPECT_EQ(trained, expected["trained"].get<std::string>()) << set.origin(i);
    }
  }
}

std::vector<std::string> names() {
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(folder()))
    found.push_back(entry.path().filename().string());
  std::sort(found.begin(), found.end());
  return found;
}

INSTANTIATE_TEST_SUITE_P(Golden, Sft, testing::ValuesIn(names()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace llmtool
