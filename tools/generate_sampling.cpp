#include "generate_sampling.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <limits>

#include "generate_config.h"
#include "llmtool/core/error.h"
#include "llmtool/infer/bad_texts.h"
#include "llmtool/io/json.h"

namespace llmtool {

void visit_sampling(ConfigVisitor& v, SamplingOptions& s, SamplingTexts& texts) {
  v.strings("samplers", s.samplers, "what acts on the logits, in this order");
  v.number("temperature", s.temperature, {0, 1000}, "0: always the likeliest token");
  v.number("dynatemp_range", s.dynatemp_range, {0, 1000}, "temperature +- this, by the entropy; 0: fixed");
  v.number("dynatemp_exponent", s.dynatemp_exponent, {0, 100}, "of the entropy's share");
  v.integer("top_k", s.top_k, {0, 1 << 24}, "the k likeliest tokens; 0: all");
  v.number("top_p", s.top_p, {0, 1}, "the fewest tokens that together reach p");
  v.number("min_p", s.min_p, {0, 1}, "tokens with this share of the likeliest's probability");
  v.number("typical_p", s.typical_p, {0, 1}, "the most typical tokens that together reach p");
  v.number("top_n_sigma", s.top_n_sigma, {0, 1000}, "logits within n standard deviations; 0: all");
  v.number("xtc_probability", s.xtc_probability, {0, 1}, "of leaving out all top choices but the last");
  v.number("xtc_threshold", s.xtc_threshold, {0, 0.5}, "probability that makes a top choice");
  v.integer("mirostat", s.mirostat, {0, 2}, "2: hold the surprise at tau; 0: off");
  v.number("mirostat_tau", s.mirostat_tau, {0, 100}, "surprise in bits");
  v.number("mirostat_eta", s.mirostat_eta, {0, 1}, "rate of its correction");
  v.number("repetition_penalty", s.repetition_penalty, {0.01, 100}, "of tokens in prompt or answer; 1: none");
  v.number("frequency_penalty", s.frequency_penalty, {-100, 100}, "per occurrence in the answer");
  v.number("presence_penalty", s.presence_penalty, {-100, 100}, "of tokens in the answer");
  v.integer("repeat_last_n", s.repeat_last_n, {-1, 1 << 24}, "last tokens these penalties see; -1: all");
  v.number("dry_multiplier", s.dry_multiplier, {0, 1000}, "penalty on going on with a repetition; 0: none");
  v.number("dry_base", s.dry_base, {1, 100}, "growth of the penalty per repeated token");
  v.integer("dry_allowed_length", s.dry_allowed_length, {1, 1 << 24}, "repeated tokens without a penalty");
  v.integer("dry_penalty_last_n", s.dry_penalty_last_n, {-1, 1 << 24}, "last tokens searched; -1: all");
  v.strings("dry_sequence_breakers", texts.dry_sequence_breakers, "texts that end a repetition");
  v.raw("logit_bias", texts.logit_bias, "token id or text -> number added to its logit; false: never");
  v.strings("bad_words", texts.bad_words,
            "texts that never appear, in words, across them or from the prompt on");
}

std::vector<std::string> sampling_keys() {
  const nlohmann::ordered_json all = write_config([](ConfigVisitor& v) {
    SamplingOptions options;
    SamplingTexts texts;
    visit_sampling(v, options, texts);
  });
  std::vector<std::string> keys;
  for (const auto& [key, value] : all.items()) keys.push_back(key);
  return keys;
}

namespace {
struct NumberFlag {
  const char *names, *key, *help;
  bool common = false;  // on the first screen of help
  const char* group() const { return common ? "Options" : "Sampling"; }
};
const NumberFlag kNumbers[] = {
    {"--temperature,--temp", "temperature", "0: the likeliest token (default: 0.8)", true},
    {"--dynatemp-range", "dynatemp_range", "Temperature +- this, by the entropy"},
    {"--dynatemp-exponent", "dynatemp_exponent", "Of the entropy's share (default: 1)"},
    {"--top-p", "top_p", "Choose among the fewest tokens that reach p", true},
    {"--min-p", "min_p", "Drop tokens below this share of the likeliest", true},
    {"--typical-p,--typical", "typical_p", "Choose among the most typical tokens that reach p"},
    {"--top-n-sigma", "top_n_sigma", "Drop logits so many standard deviations below the largest"},
    {"--xtc-probability", "xtc_probability", "How often XTC leaves out top choices"},
    {"--xtc-threshold", "xtc_threshold", "Probability that makes a top choice (default: 0.1)"},
    {"--mirostat-tau,--mirostat-ent", "mirostat_tau", "Surprise in bits (default: 5)"},
    {"--mirostat-eta,--mirostat-lr", "mirostat_eta", "Rate of its correction (default: 0.1)"},
    {"--repetition-penalty,--repeat-penalty", "repetition_penalty", "Of tokens seen; 1: none"},
    {"--frequency-penalty", "frequency_penalty", "Per occurrence in the answer"},
    {"--presence-penalty", "presence_penalty", "Of tokens in the answer"},
    {"--dry-multiplier", "dry_multiplier", "Penalty on going on with a repetition"},
    {"--dry-base", "dry_base", "Its growth per token (default: 1.75)"},
};
const NumberFlag kIntegers[] = {
    {"--top-k", "top_k", "Choose among the k likeliest tokens", true},
    {"--mirostat", "mirostat", "2: hold the surprise at tau"},
    {"--repeat-last-n", "repeat_last_n", "Last tokens that penalties see (default: -1, all)"},
    {"--dry-allowed-length", "dry_allowed_length", "Repeated tokens without a penalty (default: 2)"},
    {"--dry-penalty-last-n", "dry_penalty_last_n", "Last tokens searched (default: -1, all)"},
};

/// "TOKEN=BIAS" beside what was given before.
void add_bias(GenerateFlags& flags, const std::string& text) {
  const size_t at = text.rfind('=');
  const auto number = at == std::string::npos || at == 0
                          ? nlohmann::json()
                          : nlohmann::json::parse(text.substr(at + 1), nullptr, false);
  if (!number.is_number() && number != false)
    throw UsageError(cat("--logit-bias: expected TOKEN=NUMBER or TOKEN=false, found ", text));
  nlohmann::json all = nlohmann::json::object();
  for (const auto& [key, value] : flags.given) {
    if (key == "logit_bias") all = value;
  }
  all[text.substr(0, at)] = number;
  flags.given.emplace_back("logit_bias", all);
}

TokenId token_named(const std::string& name, const Tokenizer* tokenizer, int64_t vocab_size) {
  if (!name.empty() && name.find_first_not_of("0123456789") == std::string::npos && name.size() < 10) {
    const int64_t id = std::stoll(name);
    if (id >= vocab_size)
      throw UsageError(cat("logit_bias: expected a token below ", vocab_size, ", found ", name));
    return static_cast<TokenId>(id);
  }
  if (!tokenizer) throw UsageError(cat("logit_bias: ", name, ": the model has no tokenizer: give ids"));
  const std::vector<TokenId> ids = tokenizer->encode(name, {.continues = true});
  if (ids.size() != 1)
    throw UsageError(cat("logit_bias: expected the text of one token, found \"", name, "\" of ", ids.size(),
                         " tokens; give their ids"));
  return ids[0];
}
}  // namespace

void add_sampler_flags(CLI::App& app, const std::shared_ptr<GenerateFlags>& f) {
  const auto give = [f](const char* key) {
    return [f, key](const auto& value) { f->given.emplace_back(key, value); };
  };
  for (const NumberFlag& flag : kNumbers)
    app.add_option_function<double>(flag.names, give(flag.key), flag.help)->group(flag.group());
  for (const NumberFlag& flag : kIntegers)
    app.add_option_function<int64_t>(flag.names, give(flag.key), flag.help)->group(flag.group());
  using Texts = std::vector<std::string>;
  app.add_option_function<Texts>("--dry-sequence-breaker", give("dry_sequence_breakers"),
                                 "Text that ends a repetition; may be repeated")
      ->allow_extra_args(false)
      ->group("Sampling");
  app.add_option_function<Texts>("--bad-word", give("bad_words"),
                                 "Text that never appears, inside words neither; may be repeated")
      ->allow_extra_args(false)
      ->group("Sampling");
  app.add_option_function<Texts>(
         "--samplers",
         [give](const Texts& texts) {
           Texts names;
           for (const std::string& text : texts) {
             const size_t from = std::min(text.find_first_not_of(' '), text.size());
             names.push_back(text.substr(from, text.find_last_not_of(' ') + 1 - from));
           }
           give("samplers")(names);
         },
         "Names in their order, commas between them")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->group("Sampling");
  app.add_option_function<Texts>(
         "--logit-bias",
         [f](const Texts& given) {
           for (const std::string& text : given) add_bias(*f, text);
         },
         "TOKEN=BIAS, the token an id or a text; false: never; may be repeated")
      ->allow_extra_args(false)
      ->group("Sampling");
}

void settle_sampling(SamplingOptions& options, const SamplingTexts& texts, const Tokenizer* tokenizer,
                     int64_t vocab_size) {
  if (options.mirostat == 1) throw UsageError("mirostat: expected 0 or 2, found 1");
  for (const auto& [name, bias] : texts.logit_bias.items()) {
    if (!bias.is_number() && bias != false)
      throw UsageError(cat("logit_bias: ", name, ": expected a number or false, found ", shown(bias)));
    options.logit_bias.emplace_back(
        token_named(name, tokenizer, vocab_size),
        bias.is_number() ? bias.get<double>() : -std::numeric_limits<double>::infinity());
  }
  if (!texts.bad_words.empty() && !tokenizer) throw UsageError("bad_words: the model has no tokenizer");
  if (!texts.bad_words.empty())
    options.bad_texts = std::make_shared<const BadTexts>(*tokenizer, texts.bad_words);
  if (options.dry_multiplier != 0 && tokenizer) {
    for (const std::string& text : texts.dry_sequence_breakers) {
      if (text.empty()) throw UsageError("dry_sequence_breakers: expected texts, found an empty one");
      for (auto& ids : breaker_sequences(*tokenizer, text)) options.dry_breakers.push_back(std::move(ids));
    }
  }
  options.check();
}

}  // namespace llmtool
