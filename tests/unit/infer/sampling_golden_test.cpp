// What llama.cpp and transformers leave of given logits, and llama.cpp's own tests of its samplers.

#include <gtest/gtest.h>

#include <cmath>

#include "llmtool/core/error.h"
#include "llmtool/infer/sampler.h"
#include "llmtool/io/json.h"
#include "support.h"

namespace llmtool {
namespace {

using nlohmann::json;
using Probabilities = std::map<TokenId, double>;

/// Both sides compute in float32 somewhere: logits of up to 8 are rounded to 2^-21, probabilities likewise.
constexpr double kTolerance = 1e-6;

SamplingOptions options_of(const json& keys) {
  SamplingOptions o;
  o.temperature = 1;
  const std::map<std::string, double*> numbers = {{"temperature", &o.temperature},
                                                  {"dynatemp_range", &o.dynatemp_range},
                                                  {"dynatemp_exponent", &o.dynatemp_exponent},
                                                  {"top_p", &o.top_p},
                                                  {"min_p", &o.min_p},
                                                  {"typical_p", &o.typical_p},
                                                  {"top_n_sigma", &o.top_n_sigma},
                                                  {"xtc_probability", &o.xtc_probability},
                                                  {"xtc_threshold", &o.xtc_threshold},
                                                  {"mirostat_tau", &o.mirostat_tau},
                                                  {"mirostat_eta", &o.mirostat_eta},
                                                  {"repetition_penalty", &o.repetition_penalty},
                                                  {"frequency_penalty", &o.frequency_penalty},
                                                  {"presence_penalty", &o.presence_penalty},
                                                  {"dry_multiplier", &o.dry_multiplier},
                                                  {"dry_base", &o.dry_base}};
  const std::map<std::string, int64_t*> integers = {{"top_k", &o.top_k},
                                                    {"mirostat", &o.mirostat},
                                                    {"repeat_last_n", &o.repeat_last_n},
                                                    {"dry_allowed_length", &o.dry_allowed_length},
                                                    {"dry_penalty_last_n", &o.dry_penalty_last_n}};
  for (const auto& [key, value] : keys.items()) {
    if (numbers.contains(key)) {
      *numbers.at(key) = value;
    } else if (integers.contains(key)) {
      *integers.at(key) = value;
    } else if (key == "bad_words") {
      o.bad_words = value.get<std::vector<std::vector<TokenId>>>();
    } else {
      EXPECT_EQ(key, "logit_bias");
      o.logit_bias = value.get<std::vector<std::pair<TokenId, double>>>();
    }
  }
  return o;
}

/// A list, or the logits of some ids.
std::vector<float> logits_of(const json& given) {
  if (given.is_array()) return given.get<std::vector<float>>();
  std::vector<float> logits(512, -INFINITY);
  for (const auto& [id, logit] : given.items()) logits[std::stoul(id)] = logit;
  return logits;
}

TokenHistory answered(const std::vector<TokenId>& ids) {
  TokenHistory history;
  for (const TokenId id : ids) history.add(id);
  return history;
}

void expect_left(const std::vector<std::pair<TokenId, double>>& found, const json& expected,
                 const std::string& what) {
  EXPECT_EQ(found.size(), expected.size()) << what;
  for (const auto& [id, p] : found) {
    ASSERT_TRUE(expected.contains(std::to_string(id))) << what << ": token " << id;
    EXPECT_NEAR(p, expected[std::to_string(id)].get<double>(), kTolerance) << what << ": token " << id;
  }
}

void expect_chain(const json& given) {
  const SamplingOptions o = options_of(given["options"]);
  TokenHistory history;
  for (const json& step : given["steps"]) {
    const std::vector<float> logits = logits_of(step["logits"]);
    const auto found = candidates(logits, o, history);
    expect_left(found, step["left"], given["options"].dump());
    double before = 0;  // a number that draws what llama.cpp drew
    for (const auto& [id, p] : found) {
      if (id == step["chosen"]) {
        EXPECT_EQ(sample(logits, o, history, before + p / 2), id);
        break;
      }
      before += p;
    }
  }
}

TEST(SamplingGolden, LeavesWhatLlamaCppAndTransformersLeave) {
  const json cases = read_json(test::source_file("tests/reference/goldens_sampling/sampling.json"));
  const auto model = test::reference_data("weights/stories260K/hf/tokenizer.model");
  const auto tokenizer = model.empty() ? nullptr : load_tokenizer(model);
  EXPECT_GT(cases.size(), 50u);
  for (const json& given : cases) {
    if (given.contains("steps")) {
      expect_chain(given);
      continue;
    }
    SamplingOptions o = options_of(given["options"]);
    const std::string what = given["source"].get<std::string>() + " " + given["options"].dump();
    if (given.contains("breaker_texts") && !given["breaker_texts"].empty()) {
      if (!tokenizer) continue;
      for (const std::string text : given["breaker_texts"]) {
        for (auto& sequence : breaker_sequences(*tokenizer, text))
          o.dry_breakers.push_back(std::move(sequence));
      }
    }
    expect_left(candidates(logits_of(given["logits"]), o, answered(given["history"])), given["left"], what);
  }
}

struct Vector {
  json options;
  std::vector<double> given;
  std::vector<double> left;  // by falling probability; of penalties by token
  std::vector<TokenId> history = {};
  std::vector<std::vector<TokenId>> breakers = {};
};

std::vector<double> found_of(const Vector& v) {
  std::vector<float> logits;
  for (const double p : v.given) logits.push_back(static_cast<float>(std::log(p)));
  SamplingOptions o = options_of(v.options);
  o.dry_breakers = v.breakers;
  const auto list = candidates(logits, o, answered(v.history));
  std::vector<double> found;
  if (v.history.empty()) {
    for (const auto& [id, p] : list) found.push_back(p);
    return found;
  }
  found.resize(logits.size());
  for (const auto& [id, p] : list) found[static_cast<size_t>(id)] = p;
  return found;
}

/// The numbers of tests/test-sampling.cpp there, with its tolerance.
TEST(SamplingGolden, PassesLlamaCppsOwnTests) {
  const std::vector<double> four = {0.1, 0.2, 0.3, 0.4}, fifths(5, 0.2), quarters(4, 0.25);
  const json repeat = {{"repetition_penalty", 50}};
  const json counted = {{"frequency_penalty", 5}, {"presence_penalty", 5}};
  const auto dry = [](double multiplier, int allowed, int last) {
    return json{{"dry_multiplier", multiplier},
                {"dry_base", 1.1},
                {"dry_allowed_length", allowed},
                {"dry_penalty_last_n", last}};
  };
  const Vector vectors[] = {
      {{{"temperature", 1}}, four, {0.4, 0.3, 0.2, 0.1}},
      {{{"temperature", 0}}, four, {1}},
      {{{"dynatemp_range", 0}}, four, {0.4, 0.3, 0.2, 0.1}},
      {{{"top_k", 1}}, four, {1}},
      {{{"top_k", 3}}, four, {0.44444, 0.33333, 0.22222}},
      {{{"top_k", 4}}, four, {0.4, 0.3, 0.2, 0.1}},
      {{{"top_k", 0}}, four, {0.4, 0.3, 0.2, 0.1}},
      {{{"top_p", 0}}, four, {1}},
      {{{"top_p", 0.7}}, four, {0.571429, 0.428571}},
      {{{"top_p", 0.8}}, four, {0.44444, 0.33333, 0.22222}},
      {{{"top_p", 1}}, four, {0.4, 0.3, 0.2, 0.1}},
      {{{"min_p", 0.24}}, four, {0.4, 0.3, 0.2, 0.1}},
      {{{"min_p", 0.26}}, four, {0.4 / 0.9, 0.3 / 0.9, 0.2 / 0.9}},
      {{{"min_p", 0.49}}, four, {0.4 / 0.9, 0.3 / 0.9, 0.2 / 0.9}},
      {{{"min_p", 0.51}}, four, {0.4 / 0.7, 0.3 / 0.7}},
      {{{"min_p", 0.74}}, four, {0.4 / 0.7, 0.3 / 0.7}},
      {{{"min_p", 0.76}}, four, {1}},
      {{{"min_p", 1}}, four, {1}},
      // There the probabilities are those before the filter.
      {{{"xtc_probability", 0.99}, {"xtc_threshold", 0.09}}, four, {1}},
      {{{"xtc_probability", 0.99}, {"xtc_threshold", 0.19}}, four, {0.2 / 0.3, 0.1 / 0.3}},
      {{{"xtc_probability", 0.99}, {"xtc_threshold", 0.29}}, four, {0.3 / 0.6, 0.2 / 0.6, 0.1 / 0.6}},
      {{{"xtc_probability", 0.99}, {"xtc_threshold", 0.39}}, four, {0.4, 0.3, 0.2, 0.1}},
      {{{"typical_p", 0.5}}, {0.97, 0.01, 0.01, 0.01}, {1}},
      {{{"typical_p", 0.5}}, {0.4, 0.2, 0.2, 0.2}, {1 / 3.0, 1 / 3.0, 1 / 3.0}},
      {{{"top_n_sigma", 1}}, four, {0.571429, 0.428571}},
      {{{"top_n_sigma", 0}}, four, {0.4, 0.3, 0.2, 0.1}},
      {{{"top_n_sigma", 3}}, four, {0.4, 0.3, 0.2, 0.1}},
      {repeat, fifths, {0, 0.25, 0.25, 0.25, 0.25}, {0}},
      {repeat, fifths, {0, 0, 0, 0.5, 0.5}, {0, 1, 2}},
      {repeat, fifths, {0, 0, 0, 0.5, 0.5}, {0, 1, 2, 0, 0}},
      {counted, fifths, {0.000011, 0.249997, 0.249997, 0.249997, 0.249997}, {0}},
      {counted, fifths, {0.000023, 0.000023, 0.000023, 0.499966, 0.499966}, {0, 1, 2}},
      {counted, fifths, {0, 0.000023, 0.000023, 0.499977, 0.499977}, {0, 1, 2, 0, 0}},
      {dry(1, 2, 4), quarters, quarters, {0, 1}},
      {dry(1, 2, 5), quarters, {0.296923, 0.296923, 0.109232, 0.296923}, {0, 1, 2, 0, 1}},
      {dry(1, 2, 6), fifths, fifths, {0, 1, 3, 4, 0, 1}, {{3}}},
      {dry(2, 2, 5), fifths, {0.241818, 0.241818, 0.032727, 0.241818, 0.241818}, {0, 1, 2, 0, 1}},
      {dry(1, 4, 7), fifths, fifths, {0, 1, 2, 3, 4, 0, 1}}};
  for (const Vector& v : vectors) {
    const std::vector<double> found = found_of(v);
    ASSERT_EQ(found.size(), v.left.size()) << v.options;
    for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], v.left[i], 1e-5) << v.options << " " << i;
  }
}

TEST(Samplers, TheOrderIsTheConfigs) {
  SamplingOptions o;
  o.temperature = 4;
  o.min_p = 0.5;
  const std::vector<float> logits = {0, static_cast<float>(std::log(3.0))};
  EXPECT_EQ(candidates(logits, o, {}).size(), 2u);  // flattened first, nothing is rare
  EXPECT_EQ(o.description(), "temperature 4, min_p 0.5");
  o.samplers = {"min_p", "temperature"};
  EXPECT_EQ(candidates(logits, o, {}).size(), 1u);
  EXPECT_EQ(o.description(), "min_p 0.5, temperature 4");
  EXPECT_NO_THROW(o.check());
}

TEST(Samplers, MistakesAreNamed) {
  const auto complaint = [](const std::vector<std::string>& samplers, double min_p) -> std::string {
    SamplingOptions o;
    o.samplers = samplers;
    o.min_p = min_p;
    try {
      o.check();
    } catch (const UsageError& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(complaint({"temperature"}, 0), "");
  EXPECT_EQ(complaint({}, 0), "");
  EXPECT_NE(complaint({"temprature"}, 0).find("did you mean temperature"), std::string::npos);
  EXPECT_NE(complaint({"top_k", "top_k"}, 0).find("twice"), std::string::npos);
  EXPECT_NE(complaint({"temperature"}, 0.1).find("min_p"), std::string::npos);
}

}  // namespace
}  // namespace llmtool
