#include "model_files.h"

#include "llmtool/io/files.h"
#include "llmtool/io/gguf.h"
#include "llmtool/text/gguf_vocabulary.h"

namespace llmtool {

std::shared_ptr<const Tokenizer> tokenizer_of(const ModelSource& source, const std::string& named) {
  if (!named.empty()) return load_tokenizer(named);
  const std::filesystem::path& path = source.path();
  if (std::filesystem::is_directory(path)) {
    return std::filesystem::exists(path / "tokenizer.model") ? load_tokenizer(path) : nullptr;
  }
  if (std::string(source.format()) != "GGUF" || !has_gguf_vocabulary(GgufFile(path).metadata()))
    return nullptr;
  return load_tokenizer(path);
}

std::string text_beside(const ModelSource& source, const char* name) {
  const std::filesystem::path file = source.path() / name;
  return std::filesystem::is_regular_file(file) ? read_file(file) : "";
}

}  // namespace llmtool
