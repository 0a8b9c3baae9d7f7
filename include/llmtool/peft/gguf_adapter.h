#pragma once
// Low-rank adapters in a GGUF file, as llama.cpp reads them beside a model's own file.

#include <filesystem>
#include <memory>

#include "llmtool/core/tensor.h"
#include "llmtool/model/model_source.h"

namespace llmtool {

/// Writes the adapter of a PEFT folder for the GGUF file of `base`; dtype f32, f16 or bf16. The format has
/// one alpha, by which llama.cpp scales every change over its rank: other scales (rsLoRA's, patterns') go
/// into B. Throws UsageError on what it cannot hold: more than low-rank changes, or a model that llama.cpp
/// has not.
void write_gguf_adapter(const std::shared_ptr<const ModelSource>& base, const std::filesystem::path& folder,
                        const std::filesystem::path& file, DType dtype);

}  // namespace llmtool
