#pragma once
// What model.safetensors of a model folder holds.

#include <functional>
#include <vector>

#include "llmtool/io/safetensors.h"
#include "llmtool/model/transformer.h"

namespace llmtool {

/// The parameters under their Hugging Face names; `fetch` gives the values where they are not in memory. An
/// untied BERT head's bias stands there twice, as transformers 5 wants it: version 4 reads the one name that
/// 5 has no use for.
std::vector<NamedTensor> folder_tensors(const Transformer& model, DType stored,
                                        const std::function<Tensor(const Param&)>& fetch = {});

}  // namespace llmtool
