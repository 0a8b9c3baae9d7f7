#pragma once
// The settings of an adapter that a run begins with.

#include <filesystem>
#include <optional>
#include <string>

#include "llmtool/model/model_config.h"
#include "llmtool/peft/adapter_config.h"

namespace llmtool {

/// Those of a run that was begun, from its run.json; nothing where that says none.
std::optional<AdapterConfig> adapter_of_run(const std::filesystem::path& run);

/// Holds what a user wrote in the section `adapter` against `from`, the settings of the adapter at `place`,
/// which the run takes. Throws UsageError naming the keys that differ, with both values.
void check_given(const nlohmann::json& given, const AdapterConfig& from, const ModelConfig& model,
                 const std::string& place);

}  // namespace llmtool
