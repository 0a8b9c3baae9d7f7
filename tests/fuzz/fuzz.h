#pragma once
// A fuzz target: one input, and inputs to start from.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

/// Reads the input as a file of the target's format. A refusal (Error) is as good as an answer; whatever else
/// happens is found by a sanitizer or ends the program.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace llmtool::test {
/// Valid inputs to mutate.
std::vector<std::string> seed_corpus();
}  // namespace llmtool::test
