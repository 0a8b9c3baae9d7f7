#pragma once
// Which of a model's parameters are learnt, and at what rate.

#include <filesystem>
#include <string>
#include <vector>

#include "llmtool/model/model_source.h"
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

/// The weights that learn, to the bit, into one file and from it. Throws Error naming file and tensor where
/// it does not hold exactly these.
void save_trained(const ParamStore& params, const std::filesystem::path& file);
void load_trained(const ParamStore& params, const std::filesystem::path& file);

/// Of the weights that stay as the files have them: what a run needs of its base beside a checkpoint.
uint64_t frozen_hash(const ParamStore& params, const ModelSource& source);

}  // namespace llmtool
