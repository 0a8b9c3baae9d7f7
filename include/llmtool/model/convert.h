#pragma once
// Models from one format into another, a tensor at a time.

#include <filesystem>
#include <functional>
#include <vector>

#include "llmtool/io/gguf.h"
#include "llmtool/model/model_source.h"

namespace llmtool {

/// The type that most of a model's weights have, where both formats know it: f32, f16 or bf16; else f32.
DType usual_dtype(const ModelSource& source);

/// Called with the number of tensors written and of all.
using ConvertProgress = std::function<void(int64_t done, int64_t all)>;

/// Writes config.json, generation_config.json and model.safetensors; dtype f32, f16 or bf16. Throws
/// UsageError where config.json cannot say what the model is.
void convert_to_folder(const ModelSource& source, const std::filesystem::path& folder, DType dtype,
                       const ConvertProgress& progress);

/// Writes a GGUF file as llama.cpp reads it; dtype f32, f16, bf16, q8_0 or q4_0 (of matrices; vectors stay
/// f32, rows that are no whole blocks become f16, and with q4_0 the embedding and the head q8_0).
/// `vocabulary` is added to the metadata; a pooler is left out. Throws UsageError on a model that llama.cpp
/// would run otherwise.
void convert_to_gguf(const ModelSource& source, const std::filesystem::path& file, DType dtype,
                     const std::vector<GgufEntry>& vocabulary, const ConvertProgress& progress);

}  // namespace llmtool
