#pragma once
// Models from GGUF files.

#include "llmtool/io/gguf.h"
#include "llmtool/model/model_source.h"

namespace llmtool {

class GgufSource : public ModelSource {
 public:
  explicit GgufSource(const std::filesystem::path& path);
  const char* format() const override { return "GGUF"; }
  StoredParam find(const Param& p) const override;
  EmbeddingSettings embedding() const override;
  void check_all_used(const ParamStore& params) const override;

 private:
  explicit GgufSource(GgufFile file, const std::filesystem::path& path);
  Tensor expert_of(const std::string& name, const Tensor& all, int64_t expert) const;
  GgufFile file_;
};

}  // namespace llmtool
