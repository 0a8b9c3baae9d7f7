// Answers held to a form, of a model that knows nothing of it.

#include <gtest/gtest.h>

#include <limits>
#include <regex>

#include "llmtool/core/error.h"
#include "llmtool/grammar/regex_grammar.h"
#include "llmtool/infer/generator.h"
#include "llmtool/text/train_tokenizer.h"
#include "support.h"

namespace llmtool {
namespace {

class HeldAnswers : public ::testing::Test {
 protected:
  HeldAnswers() : model(config()) {
    TokenizerTraining s;
    s.model_type = "char";
    s.vocab_size = 0;
    bool given = false;
    const auto result = train_tokenizer(s, [&](std::string_view& text) {
      text = "abcdef é";
      return !std::exchange(given, true);
    });
    test::write_text(place / "tokenizer.model", result.model);
    tokenizer = load_tokenizer(place / "tokenizer.model");
    model.initialize(1);
    options.sampling.temperature = 2;
    options.max_new_tokens = 20;
    options.num_samples = 40;
    options.stop_ids = {tokenizer->eos_id()};
  }
  static ModelConfig config() {
    ModelConfig c;
    c.vocab_size = 40;  // more than the tokenizer has
    c.hidden_size = 16;
    c.num_hidden_layers = 2;
    c.num_attention_heads = 2;
    c.max_position_embeddings = 64;
    c.initializer_range = 0.5;
    return c;
  }
  std::vector<GenerationResult> run(const std::string& regex) {
    options.grammar = parse_regex_grammar(regex, "regex");
    ThreadPool pool(2);
    Generator generator(model, tokenizer.get(), pool, options);
    std::vector<GenerationResult> results;
    bool given = false;
    generator.run(
        [&](GenerationRequest& request) {
          request = {"ab", tokenizer->encode("ab")};
          return !std::exchange(given, true);
        },
        [&](const GenerationResult& r) { results.push_back(r); });
    return results;
  }

  test::TempFolder place;
  std::shared_ptr<const Tokenizer> tokenizer;
  Transformer model;
  GenerationOptions options;
};

TEST_F(HeldAnswers, AreOfTheFormOrSaidNotToBe) {
  int whole = 0, cut = 0, ended = 0;
  for (const GenerationResult& r : run("(abc|dé){1,8}( f+)?")) {
    const bool matches = std::regex_match(r.text, std::regex("(abc|dé){1,8}( f+)?"));
    EXPECT_EQ(r.complete, matches) << r.text;
    EXPECT_TRUE(matches || r.finish_reason == "length") << r.text;
    ++(matches ? whole : cut);
    ended += r.finish_reason == "stop";
  }
  EXPECT_GT(whole, 5);
  EXPECT_GT(ended, 0);
  EXPECT_EQ(whole + cut, 40);
}

TEST_F(HeldAnswers, AStopStringMayCutThem) {
  options.stop_strings = {"c"};
  for (const GenerationResult& r : run("abc|d")) {
    EXPECT_EQ(r.finish_reason, "stop");
    EXPECT_EQ(r.complete, r.text == "d") << r.text;
  }
}

TEST_F(HeldAnswers, NoTokensAreAskedForWhereTheFormIsEmpty) {
  for (const GenerationResult& r : run("")) {
    EXPECT_TRUE(r.ids.empty());
    EXPECT_TRUE(r.complete);
    EXPECT_EQ(r.finish_reason, "stop");
  }
  options.max_new_tokens = 0;
  EXPECT_FALSE(run("a+").at(0).complete);
  EXPECT_EQ(run("a+").at(0).finish_reason, "length");
}

TEST_F(HeldAnswers, TheBestOfSeveralIsAWholeOneWhereThereIsOne) {
  options.num_samples = 1;
  options.best_of = 40;
  options.max_new_tokens = 4;
  // Cut answers are many, and likelier by their means: their tokens are forced.
  for (const GenerationResult& r : run("a{9}|bcdef?")) EXPECT_TRUE(r.complete) << r.text;
}

// A draft of the same model is right throughout only where it is held to the same form.
TEST_F(HeldAnswers, DraftsAreHeldToo) {
  options.sampling.temperature = 0;
  options.num_samples = 1;
  options.max_new_tokens = 20;
  const std::vector<GenerationResult> plain = run("([abc]d|é f){30}");
  options.draft_model = &model;
  const std::vector<GenerationResult> drafted = run("([abc]d|é f){30}");
  EXPECT_EQ(drafted.at(0).ids, plain.at(0).ids);
  EXPECT_GT(drafted.at(0).drafted, 8);
  EXPECT_EQ(drafted.at(0).accepted, drafted.at(0).drafted);
  options.draft_model = nullptr;
  options.look_up = true;
  EXPECT_GE(run("abcdefabcd(ef|fe)").at(0).accepted, 8) << "forced tokens are drafts";
}

TEST_F(HeldAnswers, WhereNothingMayComeThePromptIsNamed) {
  for (const TokenId id : tokenizer->encode("cd", {.continues = true}))
    options.sampling.logit_bias.emplace_back(id, -std::numeric_limits<float>::infinity());
  try {
    run("a[cd]b");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(std::string(e.what()).find("prompt 1: [sampler] no token may come"), 0u) << e.what();
  }
}

// There is no z: nobody enters "cafz", and drafts neither.
TEST_F(HeldAnswers, DeadEndsAreNotEntered) {
  for (const bool drafts : {false, true}) {
    options.look_up = drafts;
    const std::vector<GenerationResult> results = run("(ca(fz|b)|d[ef]{1,3}( z)?|fade){1,2}");
    for (const GenerationResult& r : results) {
      EXPECT_TRUE(std::regex_match(r.text, std::regex("(cab|d[ef]{1,3}|fade){1,2}"))) << r.text;
      EXPECT_TRUE(r.complete);
    }
  }
}

TEST_F(HeldAnswers, AFormThatTheVocabularyCannotSpellIsAnError) {
  try {
    run("(ab|ba)z");
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("no token that goes on with the form behind \"\""), std::string::npos)
        << e.what();
  }
}

}  // namespace
}  // namespace llmtool
