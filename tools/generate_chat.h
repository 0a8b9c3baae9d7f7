#pragma once
// A conversation on a terminal, or line by line.

#include <string>

#include "generate_record.h"
#include "llmtool/infer/generator.h"
#include "llmtool/prompt/conversation.h"

namespace llmtool {

/// Every line of standard input is what the user says next, or a command: /help, /reset, /save FILE, /exit.
/// On a terminal lines are edited, and ctrl-C stops an answer. `room`: tokens that a prompt may have; older
/// turns are left out beyond it. With `json` answers are rows; those that were not stopped go to `recorder`,
/// too, where there is one. Returns the exit code.
int run_chat(Generator& generator, const Tokenizer& tokenizer, const GenerationOptions& options,
             const std::string& system, int64_t room, bool json, Recorder* recorder);

}  // namespace llmtool
