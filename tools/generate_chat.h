#pragma once
// A conversation.

#include <string>

#include "generate_record.h"
#include "llmtool/infer/generator.h"
#include "llmtool/prompt/conversation.h"

namespace llmtool {

/// Every line typed at the terminal is what the user says next, or a command: /help, /reset, /save FILE,
/// /exit. Lines are edited where standard output is the terminal, too; ctrl-C stops an answer. `room`: tokens
/// that a prompt may have; older turns are left out beyond it. With `json` answers are rows; all of them, and
/// of those that were stopped what there is, go to `recorder`, too, where there is one. Returns the exit
/// code.
int run_chat(const Transformer& model, const Tokenizer& tokenizer, ThreadPool& pool,
             GenerationOptions options, const std::string& system, int64_t room, bool json,
             Recorder* recorder);

}  // namespace llmtool
