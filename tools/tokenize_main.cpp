#include "command.h"

int main(int argc, char** argv) {
  return llmtool::run_command(argc, argv, "tokenize", "Train a tokenizer; turn text into ids and back",
                              llmtool::tokenize_command);
}
