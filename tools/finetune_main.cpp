#include "command.h"

int main(int argc, char** argv) {
  return llmtool::run_command(argc, argv, "finetune", "Adapt a pretrained model to a task",
                              llmtool::finetune_command);
}
