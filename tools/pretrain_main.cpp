#include "command.h"

int main(int argc, char** argv) {
  return llmtool::run_command(argc, argv, "pretrain",
                              "Train a language model on text by next-token prediction",
                              llmtool::pretrain_command);
}
