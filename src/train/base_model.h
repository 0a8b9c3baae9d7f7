#pragma once
// The model that training starts from.

#include "llmtool/model/model_source.h"

namespace llmtool {

/// Throws UsageError where what the base says cannot be written to a config.json.
void check_writable(const ModelSource& base, const char* key);

}  // namespace llmtool
