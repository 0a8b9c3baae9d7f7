// What each setting lets through, worked out by hand, and how often it is then drawn.

#include "llmtool/infer/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "llmtool/core/error.h"
#include "llmtool/core/rng.h"

namespace llmtool {
namespace {

using List = std::vector<std::pair<TokenId, double>>;

/// Logits of these probabilities.
std::vector<float> logits_of(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p) + 3));
  return logits;
}

void expect_list(const List& found, const List& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(found[i].first, expected[i].first);
    EXPECT_NEAR(found[i].second, expected[i].second, 1e-6);  // the logits are floats
  }
}

SamplingOptions plain() {
  SamplingOptions o;
  o.temperature = 1;
  return o;
}

const std::vector<float> kFive = logits_of({0.1, 0.4, 0.05, 0.25, 0.2});

TEST(Candidates, TemperatureAlone) {
  expect_list(candidates(kFive, plain(), {}), {{1, 0.4}, {3, 0.25}, {4, 0.2}, {0, 0.1}, {2, 0.05}});
  SamplingOptions cold = plain();
  cold.temperature = 0.5;  // squares
  expect_list(
      candidates(kFive, cold, {}),
      {{1, 0.16 / 0.275}, {3, 0.0625 / 0.275}, {4, 0.04 / 0.275}, {0, 0.01 / 0.275}, {2, 0.0025 / 0.275}});
  cold.temperature = 0;
  expect_list(candidates(kFive, cold, {}), {{1, 1}});
}

TEST(Candidates, EachFilterKeepsWhatItSays) {
  SamplingOptions o = plain();
  o.top_k = 2;
  expect_list(candidates(kFive, o, {}), {{1, 0.4 / 0.65}, {3, 0.25 / 0.65}});
  o.top_k = 99;
  EXPECT_EQ(candidates(kFive, o, {}).size(), 5u);
  o = plain();
  o.top_p = 0.6;  // 0.4 is not enough, 0.65 is
  expect_list(candidates(kFive, o, {}), {{1, 0.4 / 0.65}, {3, 0.25 / 0.65}});
  o.top_p = 0;
  expect_list(candidates(kFive, o, {}), {{1, 1}});
  o.top_p = 0.9999;
  EXPECT_EQ(candidates(kFive, o, {}).size(), 5u);
  o = plain();
  o.min_p = 0.3;  // of 0.4: from 0.12 on
  expect_list(candidates(kFive, o, {}), {{1, 0.4 / 0.85}, {3, 0.25 / 0.85}, {4, 0.2 / 0.85}});
  o.min_p = 1;
  expect_list(candidates(kFive, o, {}), {{1, 1}});
}

TEST(Candidates, TheLikeliestStaysWhereverItStands) {
  const std::vector<float> logits = logits_of({0.3, 0.1, 0.6});
  std::vector<SamplingOptions> kinds(4, plain());
  kinds[0].top_p = 0;
  kinds[1].min_p = 1;
  kinds[2].top_k = 1;
  kinds[3].temperature = 0;
  for (const SamplingOptions& o : kinds) {
    expect_list(candidates(logits, o, {}), {{2, 1}});
    EXPECT_EQ(sample(logits, o, {}, 0.9), 2);
  }
}

// At their ends the filters leave everything or what they like best, and never nothing.
TEST(Candidates, TheEndsOfEveryFilter) {
  const auto left = [](const std::function<void(SamplingOptions&)>& set) {
    SamplingOptions o = plain();
    set(o);
    std::vector<TokenId> ids;
    for (const auto& [id, probability] : candidates(kFive, o, {})) ids.push_back(id);
    return ids;
  };
  using Ids = std::vector<TokenId>;
  const Ids all = {1, 3, 4, 0, 2}, best = {1};
  EXPECT_EQ(left([](auto& o) { o.top_p = 1; }), all);
  EXPECT_EQ(left([](auto& o) { o.top_p = 1e-300; }), best);
  EXPECT_EQ(left([](auto& o) { o.top_k = INT64_MAX; }), all);
  EXPECT_EQ(left([](auto& o) { o.min_p = 1e-300; }), all);
  EXPECT_EQ(left([](auto& o) { o.typical_p = 1; }), all);
  EXPECT_EQ(left([](auto& o) { o.typical_p = 0; }).size(), 1u);
  EXPECT_EQ(left([](auto& o) { o.top_n_sigma = 1e9; }), all);
  EXPECT_EQ(left([](auto& o) { o.top_n_sigma = 1e-9; }), best);
  // XTC drops all but the least likely above the threshold: there is always one that stays.
  EXPECT_EQ(left([](auto& o) { o.xtc_probability = 1, o.xtc_threshold = 0; }), Ids{2});
  EXPECT_EQ(left([](auto& o) { o.xtc_probability = 1, o.xtc_threshold = 0.5; }), all);
  EXPECT_EQ(left([](auto& o) { o.mirostat = 2, o.mirostat_tau = 1e9; }), all);
  EXPECT_EQ(left([](auto& o) { o.mirostat = 2, o.mirostat_tau = 0; }), best);
}

TEST(Samplers, WhatIsSetAndDoesNothingIsRefused) {
  SamplingOptions o;
  o.samplers = {"temperature"};
  EXPECT_NO_THROW(o.check());
  o.mirostat = 2;  // with its settings as they are by default
  EXPECT_THROW(o.check(), UsageError);
}

TEST(Candidates, FiltersFollowEachOther) {
  SamplingOptions o = plain();
  o.top_k = 3;     // 0.4, 0.25, 0.2 of 0.85
  o.top_p = 0.75;  // 0.65 / 0.85 = 0.765
  expect_list(candidates(kFive, o, {}), {{1, 0.4 / 0.65}, {3, 0.25 / 0.65}});
  o.min_p = 0.7;  // 0.25 is 0.625 of 0.4
  expect_list(candidates(kFive, o, {}), {{1, 1}});
  // The penalty comes before the others, the temperature before top-p.
  o = plain();
  o.temperature = 0.5;
  o.top_p = 0.8;  // of the squares: 0.582, 0.809
  EXPECT_EQ(candidates(kFive, o, {}).size(), 2u);
}

TEST(Candidates, TiesGoToTheLowerId) {
  const std::vector<float> equal(6, 1.5f);
  SamplingOptions o = plain();
  o.top_k = 2;
  expect_list(candidates(equal, o, {}), {{0, 0.5}, {1, 0.5}});
  o = plain();
  o.top_p = 0.5;
  expect_list(candidates(equal, o, {}), {{0, 1.0 / 3}, {1, 1.0 / 3}, {2, 1.0 / 3}});
  o.temperature = 0;
  expect_list(candidates(equal, o, {}), {{0, 1}});
}

TEST(Candidates, PenaltiesChangeTheLogits) {
  const std::vector<float> logits = {2, -1, 0.5f, 3};
  const TokenHistory history{{{0, 2}, {1, 1}}, {{1, 3}, {3, 2}}};
  const auto logit = [&](const SamplingOptions& o, TokenId id) {
    const List list = candidates(logits, o, history);
    double p = 0, of_two = 0;
    for (const auto& [token, probability] : list) {
      if (token == id) p = probability;
      if (token == 2) of_two = probability;
    }
    return std::log(p / of_two) + 0.5;  // token 2 stands nowhere
  };
  SamplingOptions o = plain();
  o.repetition_penalty = 2;
  EXPECT_NEAR(logit(o, 0), 1, 1e-6);
  EXPECT_NEAR(logit(o, 1), -2, 1e-6);  // once, though it stands in both
  EXPECT_NEAR(logit(o, 3), 1.5, 1e-6);
  o = plain();
  o.frequency_penalty = 0.5;
  EXPECT_NEAR(logit(o, 0), 2, 1e-6);  // the prompt does not count
  EXPECT_NEAR(logit(o, 1), -2.5, 1e-6);
  EXPECT_NEAR(logit(o, 3), 2, 1e-6);
  o = plain();
  o.presence_penalty = 0.5;
  EXPECT_NEAR(logit(o, 1), -1.5, 1e-6);
  EXPECT_NEAR(logit(o, 3), 2.5, 1e-6);
}

TEST(Candidates, ALogitThatIsNoNumberIsNamed) {
  const std::vector<float> logits = {1, NAN, 2};
  try {
    candidates(logits, plain(), {});
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("token 1"), std::string::npos);
  }
}

TEST(Candidates, AMaskedTokenNeverComes) {
  const std::vector<float> masked = {-INFINITY, 1, -INFINITY, 1, -INFINITY};
  expect_list(candidates(masked, plain(), {}), {{1, 0.5}, {3, 0.5}});
  const std::vector<SamplingOptions> kinds = [] {
    std::vector<SamplingOptions> list(12, plain());
    list[1].temperature = 0;
    list[2].top_k = 4;
    list[3].top_p = 0.99;
    list[4].min_p = 0.01;
    list[5].typical_p = 0.99;
    list[6].top_n_sigma = 1;
    list[7].xtc_probability = 1;
    list[8].mirostat = 2;
    list[9].dynatemp_range = 0.5;
    list[10].logit_bias = {{0, 5}, {1, 0.5}};
    list[11].repetition_penalty = 1.5;
    return list;
  }();
  TokenHistory history;
  history.read(std::vector<TokenId>{0, 1, 2});
  for (size_t kind = 0; kind < kinds.size(); ++kind) {
    for (const double uniform : {0.0, 0.3, 0.7, std::nextafter(1.0, 0.0)}) {
      const TokenId id = sample(masked, kinds[kind], history, uniform);
      EXPECT_TRUE(id == 1 || id == 3) << kind << " at " << uniform;
    }
    for (const auto& [id, p] : candidates(masked, kinds[kind], history)) {
      EXPECT_TRUE(p > 0 && p <= 1) << kind;
    }
    const std::vector<float> none(3, -INFINITY);
    EXPECT_THROW(sample(none, kinds[kind], history, 0.5), Error) << kind;
    EXPECT_THROW(sample(std::vector<float>{1, NAN}, kinds[kind], history, 0.5), Error) << kind;
  }
}

/// Of the list, each in the order of its ids.
TEST(Sample, ADrawFromAllIsTheOneFromTheList) {
  Rng rng(5);
  std::vector<float> logits(5000);
  for (float& x : logits) x = static_cast<float>(2 * rng.normal());
  logits[17] = logits[1023] = logits[4999] = -INFINITY;
  SamplingOptions listed = plain();
  listed.temperature = 0.7;
  SamplingOptions all = listed;
  listed.logit_bias = {{3, 0.0}};  // changes nothing, but needs the list
  for (int i = 0; i < 2000; ++i) {
    const double uniform = rng.uniform();
    EXPECT_EQ(sample(logits, all, {}, uniform), sample(logits, listed, {}, uniform)) << uniform;
  }
}

TEST(Candidates, ALargeVocabularyLosesNothingToTheShortcut) {
  // A long flat tail holds a tenth of the mass: top-p must reach into it.
  std::vector<double> p(20001, 0.1 / 20000);
  p[777] = 0.9;
  SamplingOptions o = plain();
  o.top_p = 0.95;
  EXPECT_NEAR(static_cast<double>(candidates(logits_of(p), o, {}).size()), 10001, 10);
}

TEST(Sample, DrawsAsOftenAsTheProbabilitiesSay) {
  for (int kind = 0; kind < 3; ++kind) {
    SamplingOptions o = plain();
    if (kind == 1) o.top_k = 3;
    if (kind == 2) o.top_p = 0.8;
    const List expected = candidates(kFive, o, {});
    std::vector<int> drawn(5);
    Rng rng(3);
    constexpr int kDraws = 20000;
    for (int i = 0; i < kDraws; ++i) ++drawn[static_cast<size_t>(sample(kFive, o, {}, rng.uniform()))];
    double chi = 0;
    int total = 0;
    for (const auto& [id, probability] : expected) {
      const double most = probability * kDraws, off = drawn[static_cast<size_t>(id)] - most;
      chi += off * off / most;
      total += drawn[static_cast<size_t>(id)];
    }
    EXPECT_EQ(total, kDraws);
    EXPECT_LT(chi, 23.5);  // chi-squared with up to four degrees of freedom: once in ten thousand
  }
}

TEST(Sample, TheEndsOfTheRangeAreTokens) {
  EXPECT_EQ(sample(kFive, plain(), {}, 0), 0);
  EXPECT_EQ(sample(kFive, plain(), {}, std::nextafter(1.0, 0.0)), 4);
}

TEST(LogSumExp, HoldsForHugeNumbers) {
  EXPECT_NEAR(log_sum_exp(std::vector<float>{1000, 1000}), 1000 + std::log(2), 1e-9);
  EXPECT_NEAR(log_sum_exp(std::vector<float>{-1000, -1e30f}), -1000, 1e-9);
}

}  // namespace
}  // namespace llmtool
