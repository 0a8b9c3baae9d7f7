#pragma once
// Samplers that look back: biases, bad words, repetition, frequency, presence, DRY.

#include "infer/shortlist.h"
#include "llmtool/infer/sampler.h"

namespace llmtool {

void apply_bias(Shortlist& list, const SamplingOptions& options, const TokenHistory& history);
void apply_penalties(Shortlist& list, const SamplingOptions& options, const TokenHistory& history);
void apply_dry(Shortlist& list, const SamplingOptions& options, const TokenHistory& history);

}  // namespace llmtool
