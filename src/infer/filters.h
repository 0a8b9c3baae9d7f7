#pragma once
// Samplers that shorten a list, or soften it, by its logits alone; SamplingOptions defines them.

#include "infer/shortlist.h"

namespace llmtool {

void apply_temperature(Shortlist& list, double temperature, double range, double exponent);
void keep_top_p(Shortlist& list, double p);
void keep_typical(Shortlist& list, double p);
void keep_sigmas(Shortlist& list, double n);
void drop_top(Shortlist& list, double threshold);
void keep_unsurprising(Shortlist& list, double bits);

}  // namespace llmtool
