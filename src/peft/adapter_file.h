#pragma once
// The weights of a PEFT folder.

#include <filesystem>

namespace llmtool {

/// adapter_model.safetensors. Throws Error where there is none.
std::filesystem::path adapter_weights(const std::filesystem::path& folder);

}  // namespace llmtool
