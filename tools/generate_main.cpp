#include "command.h"

int main(int argc, char** argv) {
  return llmtool::run_command(argc, argv, "generate", "Write text with a model", llmtool::generate_command);
}
