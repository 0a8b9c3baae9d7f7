#include "formats.h"
#include "fuzz.h"
#include "llmtool/core/error.h"

namespace llmtool::test {
std::vector<std::string> seed_corpus() { return {sample_llama2c()}; }
}  // namespace llmtool::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static llmtool::test::MemoryFile file;
  file.set({reinterpret_cast<const char*>(data), size});
  try {
    llmtool::test::read_whole_llama2c(file.path());
  } catch (const llmtool::Error&) {
  }
  return 0;
}
