#pragma once
// What commands share that open a model.

#include <memory>

#include "llmtool/model/model_source.h"
#include "llmtool/text/tokenizer.h"

namespace llmtool {

/// The tokenizer named, or that of the model's files; nullptr where they have none that can be read.
std::shared_ptr<const Tokenizer> tokenizer_of(const ModelSource& source, const std::string& named);

/// Of a Hugging Face folder, a file's text or "" where there is none.
std::string text_beside(const ModelSource& source, const char* name);

}  // namespace llmtool
