#include <filesystem>

#include "formats.h"
#include "fuzz.h"
#include "llmtool/core/error.h"
#include "llmtool/peft/merge.h"
#include "support.h"

namespace {
namespace fs = std::filesystem;
using llmtool::test::source_file;

/// An adapter whose adapter_config.json is a file in memory, and the tiny model that it is for.
struct Folder {
  Folder() {
    fs::create_symlink(config.path(), folder / "adapter_config.json");
    fs::create_symlink(
        source_file("tests/reference/goldens_peft/llama_gqa_lora/trained") / "adapter_model.safetensors",
        folder / "adapter_model.safetensors");
  }
  llmtool::test::TempFolder folder;
  llmtool::test::MemoryFile config;
  std::shared_ptr<const llmtool::ModelSource> base =
      llmtool::ModelSource::open(source_file("tests/reference/goldens/llama_gqa"));
};
}  // namespace

namespace llmtool::test {
std::vector<std::string> seed_corpus() {
  std::vector<std::string> seeds;
  for (const auto& golden : fs::directory_iterator(source_file("tests/reference/goldens_peft"))) {
    const fs::path config = golden.path() / "trained" / "adapter_config.json";
    if (fs::exists(config)) seeds.push_back(read_text(config));
  }
  return seeds;
}
}  // namespace llmtool::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Folder place;
  place.config.set({reinterpret_cast<const char*>(data), size});
  try {
    llmtool::AdaptedModel(place.base, {{place.folder.path(), 1}});
  } catch (const llmtool::Error&) {
  }
  return 0;
}
