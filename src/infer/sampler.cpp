#include "llmtool/infer/sampler.h"

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "infer/filters.h"
#include "infer/penalties.h"
#include "infer/shortlist.h"
#include "llmtool/core/error.h"
#include "llmtool/core/rng.h"
#include "llmtool/infer/bad_texts.h"

namespace llmtool {

namespace {
constexpr double kNever = -std::numeric_limits<double>::infinity();

/// A sampler by its name.
struct Stage {
  const char* name;
  bool (*active)(const SamplingOptions&);  // whether its settings make it do something
  void (*apply)(Shortlist&, const SamplingOptions&, const TokenHistory&, double uniform);
  std::string (*settings)(const SamplingOptions&);
};
using Options = SamplingOptions;
using History = TokenHistory;

std::string penalty_settings(const Options& o) {
  std::string text = cat("repetition ", o.repetition_penalty, " frequency ", o.frequency_penalty,
                         " presence ", o.presence_penalty);
  return o.repeat_last_n < 0 ? text : cat(text, " last_n ", o.repeat_last_n);
}

/// In the default order.
const Stage kStages[] = {
    {"penalties",
     [](const Options& o) {
       return o.repeat_last_n != 0 &&
              (o.repetition_penalty != 1 || o.frequency_penalty != 0 || o.presence_penalty != 0);
     },
     [](Shortlist& l, const Options& o, const History& h, double) { apply_penalties(l, o, h); },
     penalty_settings},
    {"dry", [](const Options& o) { return o.dry_multiplier != 0 && o.dry_penalty_last_n != 0; },
     [](Shortlist& l, const Options& o, const History& h, double) { apply_dry(l, o, h); },
     [](const Options& o) {
       return cat(o.dry_multiplier, " base ", o.dry_base, " allowed_length ", o.dry_allowed_length);
     }},
    {"top_n_sigma", [](const Options& o) { return o.top_n_sigma > 0; },
     [](Shortlist& l, const Options& o, const History&, double) { keep_sigmas(l, o.top_n_sigma); },
     [](const Options& o) { return cat(o.top_n_sigma); }},
    {"temperature", [](const Options& o) { return o.temperature != 1 || o.dynatemp_range != 0; },
     [](Shortlist& l, const Options& o, const History&, double) {
       apply_temperature(l, o.temperature, o.dynatemp_range, o.dynatemp_exponent);
     },
     [](const Options& o) {
       return o.dynatemp_range == 0
                  ? cat(o.temperature)
                  : cat(o.temperature, " range ", o.dynatemp_range, " exponent ", o.dynatemp_exponent);
     }},
    {"top_k", [](const Options& o) { return o.top_k > 0; },
     [](Shortlist& l, const Options& o, const History&, double) {
       l.keep_likeliest(static_cast<size_t>(o.top_k));
     },
     [](const Options& o) { return cat(o.top_k); }},
    {"typical_p", [](const Options& o) { return o.typical_p < 1; },
     [](Shortlist& l, const Options& o, const History&, double) { keep_typical(l, o.typical_p); },
     [](const Options& o) { return cat(o.typical_p); }},
    {"top_p", [](const Options& o) { return o.top_p < 1; },
     [](Shortlist& l, const Options& o, const History&, double) { keep_top_p(l, o.top_p); },
     [](const Options& o) { return cat(o.top_p); }},
    {"min_p", [](const Options& o) { return o.min_p > 0; },
     [](Shortlist& l, const Options& o, const History&, double) {
       l.keep_from(l.greatest() + std::log(o.min_p));
     },
     [](const Options& o) { return cat(o.min_p); }},
    {"xtc", [](const Options& o) { return o.xtc_probability > 0; },
     [](Shortlist& l, const Options& o, const History&, double uniform) {
       // A number of its own, so that what is drawn afterwards does not depend on it.
       const uint64_t bits = mix64(static_cast<uint64_t>(uniform * 0x1p53) + 1);
       if (static_cast<double>(bits >> 11) * 0x1p-53 < o.xtc_probability) drop_top(l, o.xtc_threshold);
     },
     [](const Options& o) { return cat(o.xtc_probability, " threshold ", o.xtc_threshold); }},
    {"mirostat", [](const Options& o) { return o.mirostat == 2; },
     [](Shortlist& l, const Options& o, const History& h, double) {
       keep_unsurprising(l, h.mirostat_bound.value_or(2 * o.mirostat_tau));
     },
     [](const Options& o) { return cat("2 tau ", o.mirostat_tau, " eta ", o.mirostat_eta); }},
};

const Stage* stage_named(const std::string& name) {
  for (const Stage& stage : kStages) {
    if (name == stage.name) return &stage;
  }
  return nullptr;
}

bool edits(const Options& o) { return !o.logit_bias.empty() || !o.bad_words.empty() || o.bad_texts; }

Shortlist shortlist(std::span<const float> logits, const Options& o, const History& history, double uniform) {
  Shortlist list(logits);
  if (edits(o)) apply_bias(list, o, history);
  for (const std::string& name : o.samplers) {
    const Stage* const stage = stage_named(name);
    if (!stage) o.check();
    if (stage->active(o)) stage->apply(list, o, history, uniform);
  }
  return list;
}

/// Whether no sampler does anything but, perhaps, the plain temperature.
bool only_temperature(const Options& o) {
  if (edits(o) || o.dynatemp_range != 0) return false;
  return std::all_of(o.samplers.begin(), o.samplers.end(), [&](const std::string& name) {
    const Stage* const stage = stage_named(name);
    return stage && (name == "temperature" || !stage->active(o));
  });
}

/// The likeliest token (ties: the lowest). Throws as Shortlist does.
size_t best_of(std::span<const float> logits) {
  int wrong = 0;
  for (const float x : logits) wrong |= !(x < std::numeric_limits<float>::infinity());
  const Eigen::Map<const Eigen::ArrayXf> all(logits.data(), static_cast<Eigen::Index>(logits.size()));
  const float most = wrong || logits.empty() ? NAN : all.maxCoeff();
  if (most > -std::numeric_limits<float>::infinity())
    return static_cast<size_t>(std::find(logits.begin(), logits.end(), most) - logits.begin());
  const Shortlist refused(logits);  // throws
  return 0;
}

/// A draw from softmax(logits / temperature), in two passes without a list: most of the time of a draw from
/// a large vocabulary would go into making one.
TokenId draw_from_all(std::span<const float> logits, double temperature, double uniform) {
  constexpr size_t kBlock = 1024;
  const size_t best = best_of(logits);
  if (temperature == 0) return static_cast<TokenId>(best);
  const double most = logits[best], factor = 1 / temperature;
  Eigen::Array<double, kBlock, 1> weight = {};
  const auto weigh = [&](size_t first) {
    const size_t n = std::min(kBlock, logits.size() - first);
    double* const x = weight.data();  // in a loop of its own: a cast would keep Eigen from vectors
    for (size_t i = 0; i < n; ++i) x[i] = (logits[first + i] - most) * factor;
    weight = weight.exp();
    return static_cast<Eigen::Index>(n);
  };
  std::vector<double> sums;
  double total = 0;
  for (size_t first = 0; first < logits.size(); first += kBlock) {
    sums.push_back(weight.head(weigh(first)).sum());
    total += sums.back();
  }
  double reached = 0;
  size_t chosen = best;  // where rounding lets the sum end before the number drawn
  for (size_t block = 0; block < sums.size(); ++block) {
    if (uniform * total >= reached + sums[block]) {
      reached += sums[block];
      continue;
    }
    const Eigen::Index n = weigh(block * kBlock);
    for (Eigen::Index i = 0; i < n; ++i) {
      const size_t id = block * kBlock + static_cast<size_t>(i);
      if (static_cast<double>(logits[id]) == kNever) continue;
      chosen = id;
      reached += weight[i];
      if (uniform * total < reached) break;
    }
    break;
  }
  return static_cast<TokenId>(chosen);
}
}  // namespace

const std::vector<std::string>& SamplingOptions::default_samplers() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const Stage& stage : kStages) list.emplace_back(stage.name);
    return list;
  }();
  return names;
}

void SamplingOptions::check() const {
  const auto& known = default_samplers();
  for (const std::string& name : samplers) {
    if (!stage_named(name)) {
      const std::string near = nearest(name, known.data(), known.size());
      std::string list;
      for (const std::string& each : known) list += (list.empty() ? "" : ", ") + each;
      throw UsageError(cat("samplers: expected some of ", list, "; found \"", name, "\"",
                           near.empty() ? "" : cat(", did you mean ", near, "?")));
    }
    if (std::count(samplers.begin(), samplers.end(), name) > 1)
      throw UsageError(cat("samplers: ", name, " stands there twice"));
  }
  const SamplingOptions standard;
  for (const Stage& stage : kStages) {
    const bool set =
        stage.active(*this) && (!stage.active(standard) || stage.settings(*this) != stage.settings(standard));
    if (set && std::find(samplers.begin(), samplers.end(), stage.name) == samplers.end())
      throw UsageError(cat("samplers: ", stage.name, " (", stage.settings(*this),
                           ") is set but not among them; add it, or leave its settings"));
  }
}

std::string SamplingOptions::description() const {
  std::string text;
  const auto say = [&text](const std::string& part) { text += (text.empty() ? "" : ", ") + part; };
  if (!logit_bias.empty()) say(cat("logit_bias of ", logit_bias.size(), " tokens"));
  if (!bad_words.empty()) say(cat("bad_words of ", bad_words.size(), " sequences"));
  if (bad_texts) say(cat("bad_words of ", bad_texts->size(), " texts"));
  for (const std::string& name : samplers) {
    const Stage* const stage = stage_named(name);
    if (stage && stage->active(*this)) say(cat(name, " ", stage->settings(*this)));
  }
  return text.empty() ? "none" : text;
}

bool SamplingOptions::looks_back() const {
  return repetition_penalty != 1 || repeat_last_n >= 0 || dry_multiplier != 0 || !bad_words.empty() ||
         bad_texts;
}

double log_sum_exp(std::span<const float> logits) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double total = 0;
  for (const float x : logits) total += std::exp(x - most);
  return std::log(total) + most;
}

std::vector<std::pair<TokenId, double>> candidates(std::span<const float> logits, const SamplingOptions& o,
                                                   const TokenHistory& history, double uniform) {
  Shortlist list = shortlist(logits, o, history, uniform);
  list.sort();
  const double log_sum = list.totals().log_sum;
  std::vector<std::pair<TokenId, double>> result;
  result.reserve(list.size());
  for (const Shortlist::Entry& e : list.entries()) result.emplace_back(e.id, std::exp(e.logit - log_sum));
  return result;
}

TokenId sample(std::span<const float> logits, const SamplingOptions& o, TokenHistory& history,
               double uniform) {
  const bool has_temperature =
      std::find(o.samplers.begin(), o.samplers.end(), "temperature") != o.samplers.end();
  if (only_temperature(o)) return draw_from_all(logits, has_temperature ? o.temperature : 1, uniform);
  Shortlist list = shortlist(logits, o, history, uniform);
  if (!list.untouched()) list.sort();
  const double log_sum = list.totals().log_sum;
  double reached = 0;
  Shortlist::Entry chosen = list[0];
  for (const Shortlist::Entry& e : list.entries()) {
    chosen = e;
    reached += std::exp(e.logit - log_sum);
    if (uniform < reached) break;
  }
  if (o.mirostat == 2) {
    const double surprise = (log_sum - chosen.logit) / std::log(2.0);
    double& bound = history.mirostat_bound.emplace(history.mirostat_bound.value_or(2 * o.mirostat_tau));
    bound -= o.mirostat_eta * (surprise - o.mirostat_tau);
  }
  return chosen.id;
}

}  // namespace llmtool
