// Answers held to a form, of a model that knows nothing of it.

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <regex>

#include "llmtool/core/error.h"
#include "llmtool/grammar/held_text.h"
#include "llmtool/grammar/regex_grammar.h"
#include "llmtool/infer/generator.h"
#include "llmtool/text/train_tokenizer.h"
#include "reference.h"
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
    results.clear();
    bool given = false;
    generator.run(
        [&](GenerationRequest& request) {
          request = {"ab", tokenizer->encode("ab")};
          request.name = name;
          return !std::exchange(given, true);
        },
        [&](const GenerationResult& r) { results.push_back(r); });
    return results;
  }

  test::TempFolder place;
  std::shared_ptr<const Tokenizer> tokenizer;
  Transformer model;
  GenerationOptions options;
  std::string name;                       // of the prompt
  std::vector<GenerationResult> results;  // of the last run
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
    EXPECT_EQ(std::string(e.what()).find(
                  "prompt 1: the tokenizer has no token that goes on with the form behind \"\""),
              0u)
        << e.what();
  }
}

// Some samples are "ba", the others get stuck behind "ab", where biases let nothing come.
TEST_F(HeldAnswers, APromptWithAFailedAnswerHasItsErrorAndNoMore) {
  name = "rows: row 7";
  constexpr double kNever = -std::numeric_limits<double>::infinity();
  for (const char* letter : {"e", "f"})
    options.sampling.logit_bias.emplace_back(tokenizer->encode(letter).back(), kNever);
  EXPECT_THROW(run("ba|ab[ef]"), Error);
  const size_t before = results.size();
  ASSERT_GT(before, 0u);
  ASSERT_LT(before, 39u);
  options.skip_failed = true;
  run("ba|ab[ef]");
  ASSERT_EQ(results.size(), before + 1);
  for (size_t i = 0; i < before; ++i) EXPECT_EQ(results[i].text, "ba");
  const GenerationResult failed = results.back();
  EXPECT_EQ(failed.sample, static_cast<int64_t>(before));
  EXPECT_EQ(failed.finish_reason, "error");
  EXPECT_EQ(failed.text, "");
  EXPECT_EQ(failed.error.find("rows: row 7: [sampler] no token may come"), 0u) << failed.error;
  options.best_of = std::exchange(options.num_samples, 1);
  ASSERT_EQ(run("ba|ab[ef]").size(), 1u);
  EXPECT_EQ(results[0].sample, 0);
  EXPECT_EQ(results[0].error, failed.error);
  options.best_of = 1;
  options.context = 1;
  EXPECT_NE(run("ab").at(0).error.find("tokens do not fit the context of 1"), std::string::npos);
}

/// An answer with its stop id, and the sum of the model's log-probabilities.
struct Whole {
  std::vector<TokenId> ids;
  double sum = 0;
};

// As many beams as there are texts find all of them: in the order of the plain sums over the lengths.
TEST_F(HeldAnswers, BeamsFindTheLikeliestOfTheForm) {
  const auto grammar = parse_regex_grammar("(a|bc|[de]f?){1,2}", "r");
  TokenMasks masks(*tokenizer, model.config().vocab_size, options.stop_ids);
  const int64_t V = model.config().vocab_size;
  reference::Machine machine;
  std::vector<Whole> texts;
  const std::function<void(const HeldText&, const Whole&)> walk = [&](const HeldText& held,
                                                                      const Whole& so_far) {
    std::vector<TokenId> all = tokenizer->encode("ab");
    all.insert(all.end(), so_far.ids.begin(), so_far.ids.end());
    KvCache cache(model.config(), 64);
    std::vector<float> logits(static_cast<size_t>(V));
    model.forward(machine.exec, all, cache, Tensor(logits.data(), {1, V}));
    const double log_z = log_sum_exp(logits);
    for (TokenId id = 0; id < V; ++id) {
      if (!held.mask().allows(id)) continue;
      Whole next = so_far;
      next.ids.push_back(id);
      next.sum += logits[static_cast<size_t>(id)] - log_z;
      if (id == tokenizer->eos_id()) {
        texts.push_back(next);
        continue;
      }
      HeldText on = held;
      on.push(id);
      walk(on, next);
    }
  };
  walk(HeldText(*grammar, masks, false), {});
  ASSERT_EQ(texts.size(), 42u);
  const auto score = [](const Whole& w) { return w.sum / static_cast<double>(w.ids.size()); };
  std::sort(texts.begin(), texts.end(), [&](const Whole& a, const Whole& b) { return score(a) > score(b); });
  options.sampling = {};
  options.num_beams = 64;
  options.num_samples = 42;
  options.logprobs = 0;
  run("(a|bc|[de]f?){1,2}");
  ASSERT_EQ(results.size(), 42u);
  for (size_t i = 0; i < 42; ++i) {
    EXPECT_NEAR(*results[i].score, score(texts[i]), 1e-5);  // of f32 logits
    texts[i].ids.pop_back();
    EXPECT_EQ(results[i].ids, texts[i].ids) << i;
    EXPECT_TRUE(results[i].complete);
    EXPECT_EQ(results[i].finish_reason, "stop");
  }
  options.num_samples = 43;
  try {
    run("(a|bc|[de]f?){1,2}");
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("prompt 1: expected 43 answers of 64 beams, found 42"),
              std::string::npos)
        << e.what();
  }
}

TEST_F(HeldAnswers, BeamsEndWithTheForm) {
  options.sampling = {};
  options.num_beams = 4;
  options.num_samples = 3;
  options.stop_ids.clear();
  for (const GenerationResult& r : run("(a|bc|de)f")) {
    EXPECT_EQ(r.finish_reason, "stop");
    EXPECT_TRUE(r.complete) << r.text;
  }
  options.num_samples = 1;
  EXPECT_EQ(run("").at(0).finish_reason, "stop");
  EXPECT_EQ(run("ab|baz").at(0).text, "ab") << "what gets stuck is left out";
  EXPECT_THROW(run("(ab|ba)z"), Error);
  options.max_new_tokens = 3;
  EXPECT_FALSE(run("[ab]{4}").at(0).complete);
  EXPECT_EQ(run("[ab]{4}").at(0).finish_reason, "length");
  options.stop_ids = {tokenizer->eos_id()};
  EXPECT_EQ(run("[ab]{3}").at(0).finish_reason, "stop") << "there is no room for the stop id";
  EXPECT_TRUE(run("[ab]{3}").at(0).complete);
}

}  // namespace
}  // namespace llmtool
