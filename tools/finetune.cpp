#include <CLI/CLI.hpp>

#include "command.h"
#include "llmtool/core/error.h"

namespace llmtool {

std::function<int()> finetune_command(CLI::App& app) {
  app.footer(
      "Not in this version yet. Coming: full fine-tuning, frozen layers, LoRA, AdaLoRA and Adaption Prompt.\n"
      "Until then `pretrain --set training.init_from='\"MODEL\"'` continues to train all weights of a "
      "model.");
  app.allow_extras();
  return []() -> int {
    throw UsageError(
        "finetune is not in this version yet; coming: full fine-tuning, frozen layers, LoRA, AdaLoRA and "
        "Adaption "
        "Prompt. `pretrain` with training.init_from continues to train all weights of a model.");
  };
}

}  // namespace llmtool
