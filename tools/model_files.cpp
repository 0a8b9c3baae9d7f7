#include "model_files.h"

#include "llmtool/io/files.h"

namespace llmtool {

std::shared_ptr<const Tokenizer> tokenizer_of(const ModelSource& source, const std::string& named) {
  if (!named.empty()) return load_tokenizer(named);
  const std::filesystem::path& path = source.path();
  const bool could = std::filesystem::is_directory(path) || std::string(source.format()) == "GGUF";
  return could && has_tokenizer(path) ? load_tokenizer(path) : nullptr;
}

std::string text_beside(const ModelSource& source, const char* name) {
  const std::filesystem::path file = source.path() / name;
  return std::filesystem::is_regular_file(file) ? read_file(file) : "";
}

}  // namespace llmtool
