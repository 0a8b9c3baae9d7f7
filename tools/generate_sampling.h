#pragma once
// The samplers' part of `generate`: keys, flags, and texts turned into ids.

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "llmtool/infer/sampler.h"
#include "llmtool/io/config.h"

namespace CLI {
class App;
}

namespace llmtool {

struct GenerateFlags;

/// What is given as text and needs a tokenizer.
struct SamplingTexts {
  std::vector<std::string> bad_words;
  std::vector<std::string> dry_sequence_breakers = {"\n", ":", "\"", "*"};
  nlohmann::json logit_bias = nlohmann::json::object();  // token id or text -> bias, or false: never
};

/// The keys of visit_sampling.
std::vector<std::string> sampling_keys();
void visit_sampling(ConfigVisitor& v, SamplingOptions& options, SamplingTexts& texts);
void add_sampler_flags(CLI::App& app, const std::shared_ptr<GenerateFlags>& flags);
/// The texts as ids into `options`, which are then checked. Throws UsageError; `tokenizer` may be nullptr.
void settle_sampling(SamplingOptions& options, const SamplingTexts& texts, const Tokenizer* tokenizer,
                     int64_t vocab_size);

}  // namespace llmtool
