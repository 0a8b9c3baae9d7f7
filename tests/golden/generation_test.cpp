// What is generated against the reference library (tests/reference/make_generation_goldens.py).

#include <gtest/gtest.h>

#include <fstream>

#include "golden.h"
#include "llmtool/grammar/regex_grammar.h"
#include "llmtool/infer/generator.h"

namespace llmtool {
namespace {

using Ids = std::vector<TokenId>;

class Generation : public ::testing::TestWithParam<std::string> {
 protected:
  Generation() : model(load_transformer(test::goldens() / GetParam())) {
    std::ifstream in(test::source_file("tests/reference/goldens_generation.json"));
    golden = nlohmann::json::parse(in).at(GetParam());
    options.sampling.temperature = 0;
    options.max_new_tokens = 12;
    options.logprobs = 0;
  }
  std::vector<GenerationResult> run(const std::vector<Ids>& prompts) const {
    Generator generator(model, tokenizer.get(), const_cast<ThreadPool&>(pool), options);
    std::vector<GenerationResult> results;
    size_t next = 0;
    generator.run(
        [&](GenerationRequest& request) {
          if (next == prompts.size()) return false;
          request = {"", prompts[next++]};
          return true;
        },
        [&](const GenerationResult& r) { results.push_back(r); });
    return results;
  }
  /// A new read of the whole text for every token.
  Ids without_a_cache(Ids text) {
    const int64_t V = model.config().vocab_size;
    const auto prompt = static_cast<std::ptrdiff_t>(text.size());
    test::Machine machine;
    for (int i = 0; i < 12; ++i) {
      KvCache cache(model.config(), 48);
      std::vector<float> logits(static_cast<size_t>(V));
      model.forward(machine.exec, text, cache, Tensor(logits.data(), {1, V}));
      text.push_back(static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    }
    return {text.begin() + prompt, text.end()};
  }

  /// Searches as `search` says, and compares.
  void compare_beams(const nlohmann::json& search) {
    const auto prompts = golden["prompts"].get<std::vector<Ids>>();
    const auto found = run({prompts[search["prompt"].get<size_t>()]});
    ASSERT_EQ(found.size(), search["answers"].size());
    for (size_t i = 0; i < found.size(); ++i) {
      const nlohmann::json& answer = search["answers"][i];
      EXPECT_EQ(found[i].ids, answer["ids"].get<Ids>()) << search["num_beams"] << " beams, answer " << i;
      EXPECT_EQ(found[i].finish_reason, answer["stopped"].get<bool>() ? "stop" : "length");
      EXPECT_TRUE(found[i].complete || found[i].finish_reason == "length") << found[i].text;
      // Sums of a dozen f32 numbers there, rounded to 1e-6.
      const double score = answer["score"].get<double>();
      EXPECT_NEAR(*found[i].score, score, 1e-5 * std::max(1.0, std::abs(score)));
    }
  }

  Transformer model;
  std::shared_ptr<const Tokenizer> tokenizer;  // where texts matter
  nlohmann::json golden;
  GenerationOptions options;
  ThreadPool pool{2};
};

TEST_P(Generation, GreedyIdsEqualTheReference) {
  const auto prompts = golden["prompts"].get<std::vector<Ids>>();
  const auto expected = golden["greedy"].get<std::vector<Ids>>();
  for (const int64_t batch : {1, 3}) {
    options.batch_size = batch;
    const auto found = run(prompts);
    ASSERT_EQ(found.size(), prompts.size());
    for (size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(found[i].ids, expected[i]) << batch << " " << i;
  }
  for (size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(without_a_cache(prompts[i]), expected[i]) << i;
}

/// Speculation, smaller caches (which a tiny model's ids survive) and prompts that lost their beginning.
TEST_P(Generation, NoWayOfRunningChangesTheIds) {
  const auto prompts = golden["prompts"].get<std::vector<Ids>>();
  const auto expected = golden["greedy"].get<std::vector<Ids>>();
  options.look_up = true;
  for (const auto& r : run(prompts)) EXPECT_EQ(r.ids, expected[static_cast<size_t>(r.index)]);
  options.look_up = false;
  options.draft_model = &model;
  for (const auto& r : run(prompts)) EXPECT_EQ(r.ids, expected[static_cast<size_t>(r.index)]);
  options.draft_model = nullptr;
  options.truncate_left = true;
  for (size_t i = 0; i < prompts.size(); ++i) {
    options.context = static_cast<int64_t>(prompts[i].size()) + 12;
    Ids longer(static_cast<size_t>(options.context), 1);
    longer.insert(longer.end(), prompts[i].begin(), prompts[i].end());
    const auto r = run({longer})[0];
    if (r.prompt_ids.size() == prompts[i].size()) {
      EXPECT_EQ(r.ids, expected[i]) << i;
    } else {  // short ones keep half of the context
      EXPECT_EQ(r.prompt_ids.size(), static_cast<size_t>(options.context + 1) / 2);
    }
  }
}

/// A draft model rereads its text, too, where this outgrows the length that longrope was trained for.
TEST(Drafts, OfLongropeCrossItsTrainedLength) {
  const Transformer model(load_transformer(test::goldens() / "phi3_longrope"));
  ThreadPool pool{2};
  GenerationOptions options;
  options.sampling.temperature = 0;
  options.max_new_tokens = 30;
  const auto ids = [&](TokenId first) {
    Generator generator(model, nullptr, pool, options);
    Ids found;
    bool given = false;
    generator.run(
        [&](GenerationRequest& request) {
          request = {"", {first}};
          return !std::exchange(given, true);
        },
        [&](const GenerationResult& r) { found = r.ids; });
    return found;
  };
  for (const TokenId first : {3, 7}) {
    options.draft_model = nullptr;
    const Ids expected = ids(first);
    ASSERT_EQ(expected.size(), 30u);
    EXPECT_GT(30, model.config().rope_scaling.original_positions);
    options.draft_model = &model;
    EXPECT_EQ(ids(first), expected);
  }
}

TEST_P(Generation, BeamsEqualTheReference) {
  for (const nlohmann::json& search : golden["beams"]) {
    const nlohmann::json& early = search["early_stopping"];
    using Early = GenerationOptions::EarlyStopping;
    options.early_stopping = early.is_string() ? Early::never : early.get<bool>() ? Early::yes : Early::no;
    options.num_beams = options.num_samples = search["num_beams"].get<int64_t>();
    options.length_penalty = search["length_penalty"].get<double>();
    options.stop_ids = search["stop_ids"].get<Ids>();
    compare_beams(search);
  }
}

/// A byte-level tokenizer whose id 0 ends answers and whose others are a, b, c, d, aa, ab and so on.
nlohmann::json letters(size_t vocab_size) {
  std::vector<std::string> pieces = {""};
  for (size_t i = 0; pieces.size() < vocab_size; ++i) {
    for (const char c : {'a', 'b', 'c', 'd'}) pieces.push_back(pieces[i] + c);
  }
  nlohmann::json vocab = {{"<end>", 0}};
  for (size_t id = 1; id < vocab_size; ++id) vocab[pieces[id]] = id;
  const nlohmann::json step = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  const nlohmann::json end = {{"id", 0},         {"content", "<end>"}, {"single_word", false},
                              {"lstrip", false}, {"rstrip", false},    {"normalized", false},
                              {"special", true}};
  return {{"added_tokens", nlohmann::json::array({end})},
          {"normalizer", nullptr},
          {"pre_tokenizer", step},
          {"post_processor", nullptr},
          {"decoder", step},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", nlohmann::json::array()}}}};
}

TEST_P(Generation, BeamsInAFormEqualTheReference) {
  const test::TempFolder place;
  test::write_text(place / "tokenizer.json", letters(static_cast<size_t>(model.config().vocab_size)).dump());
  tokenizer = load_tokenizer(place.path());
  const nlohmann::json& search = golden["held_beams"];
  options.num_beams = options.num_samples = search["num_beams"].get<int64_t>();
  options.stop_ids = {0};
  options.grammar = parse_regex_grammar(search["form"].get<std::string>(), "form");
  compare_beams(search);
}

INSTANTIATE_TEST_SUITE_P(Golden, Generation, ::testing::ValuesIn(test::golden_names(true)),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace llmtool
