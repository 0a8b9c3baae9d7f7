#pragma once
// The model that fine-tuning starts from.

#include <string>
#include <vector>

#include "llmtool/model/model_source.h"
#include "llmtool/model/transformer.h"

namespace llmtool {

/// The base as a language model. Throws UsageError where it does not predict next tokens.
Transformer open_language_model(const ModelSource& base);

/// The base with a classification head for these labels: its own where it has one for them, else a fresh one,
/// drawn by seed, as is the pooler that BERT's reads. `fresh` says which of both.
Transformer open_classifier(const ModelSource& base, const std::vector<std::string>& labels, uint64_t seed,
                            bool* fresh);

/// Throws UsageError where what the base says cannot be written to a config.json.
void check_writable(const ModelSource& base, const char* key);

}  // namespace llmtool
