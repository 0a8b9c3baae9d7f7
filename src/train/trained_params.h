#pragma once
// Which of a model's parameters are learnt, and at what rate.

#include <string>
#include <vector>

#include "llmtool/model/transformer.h"
#include "llmtool/train/finetune_config.h"
#include "llmtool/train/optimizer.h"

namespace llmtool {

/// Freezes the parameters in whose names `pattern` finds a place ("": none) and, where last > 0, all that
/// stand in front of the last blocks: the final norm and the head learn with them, but not a head that is the
/// embedding. To be called before the gradients are allocated. Throws UsageError where the pattern finds
/// nothing, where there are fewer blocks, and where nothing is left to learn.
void freeze_params(Transformer& model, const std::string& pattern, int64_t last);

/// Gives parameters that a group names the group's rate; the others keep `learning_rate`. Throws UsageError
/// where a group finds nothing.
void set_rates(const ParamStores& stores, const std::vector<RateGroup>& groups, double learning_rate);

}  // namespace llmtool
