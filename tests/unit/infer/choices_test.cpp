// Choices: scored as if each whole text were read on its own.

#include "llmtool/infer/choices.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "llmtool/core/error.h"
#include "llmtool/text/train_tokenizer.h"
#include "reference.h"
#include "support.h"

namespace llmtool {
namespace {

class Choices : public ::testing::Test {
 protected:
  static ModelConfig config(int64_t V) {
    ModelConfig c;
    c.vocab_size = V;
    c.hidden_size = 32;
    c.num_hidden_layers = 2;
    c.num_attention_heads = 2;
    c.max_position_embeddings = 64;
    c.initializer_range = 0.3;
    return c;
  }
  Choices() {
    TokenizerTraining s;
    s.model_type = "bpe";
    s.vocab_size = 300;
    bool given = false;
    const auto result = train_tokenizer(s, [&](std::string_view& text) {
      text = "yes yes no no maybe maybe the cat likes the dog and the dog likes the cat, yes yesterday";
      return !std::exchange(given, true);
    });
    test::write_text(place / "tokenizer.model", result.model);
    tokenizer = load_tokenizer(place / "tokenizer.model");
    model = std::make_unique<Transformer>(config(tokenizer->vocab_size()));
    model->initialize(3);
  }
  GenerationRequest request(const std::string& prompt) const {
    return {prompt, tokenizer->encode(prompt, {.add_special_tokens = true})};
  }
  /// log p(ids from `first` on | those before), by a read of its own.
  double plain_score(const std::vector<TokenId>& ids, size_t first) {
    KvCache cache(model->config(), 64);
    const int64_t V = model->config().vocab_size, n = static_cast<int64_t>(ids.size());
    std::vector<float> logits(static_cast<size_t>(n * V));
    model->forward(machine.exec, ids, cache, Tensor(logits.data(), {n, V}));
    double sum = 0;
    for (size_t i = first; i < ids.size(); ++i) {
      const std::span<const float> row(logits.data() + (i - 1) * static_cast<size_t>(V),
                                       static_cast<size_t>(V));
      sum += row[static_cast<size_t>(ids[i])] - log_sum_exp(row);
    }
    return sum;
  }

  test::TempFolder place;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::unique_ptr<Transformer> model;
  reference::Machine machine;
  ThreadPool pool{2};
};

TEST_F(Choices, EqualAPlainLoopOfFullEvaluations) {
  // One is the beginning of another, two begin alike, one has bytes beyond the vocabulary.
  const std::vector<std::string> choices = {
      " yes", " yesterday", " no", " maybe the cat", " maybe the dog", " na\xC3\xAFve", "s and the dog"};
  for (const auto normalize :
       {ChoiceOptions::Normalize::none, ChoiceOptions::Normalize::tokens, ChoiceOptions::Normalize::bytes}) {
    ChoiceScorer scorer(*model, *tokenizer, pool, {choices, normalize});
    int64_t index = 0;
    for (const std::string prompt : {"the cat likes", "the cat likes the dog and the dog likes the", "yes"}) {
      const GenerationRequest asked = request(prompt);
      const ChoiceResult r = scorer.score(asked, index++);
      std::vector<std::vector<TokenId>> texts;
      int64_t shared = static_cast<int64_t>(asked.ids.size());
      for (const std::string& choice : choices) {
        texts.push_back(tokenizer->encode(prompt + choice, {.add_special_tokens = true}));
        const auto& ids = texts.back();
        int64_t common = 0;
        while (common < shared && ids[static_cast<size_t>(common)] == asked.ids[static_cast<size_t>(common)])
          ++common;
        shared = common;
      }
      std::vector<double> scores;
      for (size_t i = 0; i < choices.size(); ++i) {
        const double plain = plain_score(texts[i], static_cast<size_t>(shared));
        EXPECT_NEAR(r.logprobs[i], plain, 1e-5) << prompt << choices[i];
        const auto tokens = static_cast<double>(texts[i].size()) - static_cast<double>(shared);
        EXPECT_EQ(r.tokens[i], static_cast<int64_t>(tokens));
        scores.push_back(normalize == ChoiceOptions::Normalize::tokens  ? plain / tokens
                         : normalize == ChoiceOptions::Normalize::bytes ? plain / choices[i].size()
                                                                        : plain);
      }
      double total = 0;
      for (const double score : scores) total += std::exp(score);
      for (size_t i = 0; i < choices.size(); ++i)
        EXPECT_NEAR(r.probabilities[i], std::exp(scores[i]) / total, 1e-5);
      EXPECT_EQ(scores[r.best], *std::max_element(scores.begin(), scores.end()));
    }
  }
}

TEST_F(Choices, APromptOfIdsIsContinuedByTheChoicesOwnIds) {
  GenerationRequest asked = request("the cat");
  std::reverse(asked.ids.begin() + 1, asked.ids.end());
  asked.ids.push_back(5);
  ChoiceScorer scorer(*model, *tokenizer, pool, {{"yes", "no"}});
  const ChoiceResult r = scorer.score(asked, 0);
  for (size_t i = 0; i < 2; ++i) {
    std::vector<TokenId> ids = asked.ids;
    const auto more = tokenizer->encode(i == 0 ? "yes" : "no", {.continues = true});
    ids.insert(ids.end(), more.begin(), more.end());
    EXPECT_NEAR(r.logprobs[i], plain_score(ids, asked.ids.size()), 1e-5);
  }
}

TEST_F(Choices, ALongPromptIsRefusedOrLosesItsBeginning) {
  std::string prompt = "yes";
  while (request(prompt).ids.size() < 80) prompt += " yes no";
  ChoiceScorer strict(*model, *tokenizer, pool, {{" yes", " maybe"}});
  EXPECT_THROW(strict.score(request(prompt), 0), Error);
  GenerationRequest named = request(prompt);
  named.name = "row 9";
  try {
    strict.fit(named, 0);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(std::string(e.what()).find("row 9: "), 0u) << e.what();
  }
  ChoiceScorer lenient(*model, *tokenizer, pool, {.choices = {" yes", " maybe"}, .truncate_left = true});
  const ChoiceTexts fitted = lenient.fit(request(prompt), 0);
  size_t longest = 0;
  for (const auto& text : fitted.texts) longest = std::max(longest, text.size());
  EXPECT_EQ(longest, static_cast<size_t>(model->config().context()) + 1);  // the last id is not read
  EXPECT_GE(fitted.prompt.size(), fitted.shared);
  EXPECT_TRUE(
      std::equal(fitted.prompt.begin(), fitted.prompt.begin() + fitted.shared, fitted.texts[0].begin()));
  const ChoiceResult r = lenient.score(request(prompt), 0);
  EXPECT_NEAR(r.probabilities[0] + r.probabilities[1], 1, 1e-12);
}

TEST_F(Choices, RefuseWhatCannotBeChosenFrom) {
  for (const std::vector<std::string>& choices :
       {std::vector<std::string>{}, {"yes"}, {"yes", ""}, {"yes", "no", "yes"}}) {
    EXPECT_THROW(ChoiceScorer(*model, *tokenizer, pool, {choices}), UsageError);
  }
}

}  // namespace
}  // namespace llmtool
