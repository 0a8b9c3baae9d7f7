#pragma once
// The part of `generate` that makes prompts: keys and flags.

#include <memory>

#include "generate_io.h"
#include "generate_table.h"
#include "llmtool/io/config.h"

namespace CLI {
class App;
}

namespace llmtool {

struct GenerateFlags;

void visit_prompting(ConfigVisitor& v, PromptSettings& prompt, TableSettings& table);
void add_prompting_flags(CLI::App& app, const std::shared_ptr<GenerateFlags>& flags);

}  // namespace llmtool
