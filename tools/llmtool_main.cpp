#include "command.h"

int main(int argc, char** argv) { return llmtool::run_llmtool(argc, argv); }
