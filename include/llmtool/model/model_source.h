#pragma once
// ModelSource: a model's files, whatever their format.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "llmtool/core/tensor.h"
#include "llmtool/model/embedding.h"
#include "llmtool/model/model_config.h"
#include "llmtool/nn/param_store.h"

namespace llmtool {

/// A parameter as a file holds it.
struct StoredParam {
  std::string name;                // in the file, of the tensor that it is or is an entry of
  Tensor tensor;                   // empty: not there
  bool transpose = false;          // stored as (cols, rows)
  std::vector<int64_t> rows = {};  // row r is row rows[r] in the file; empty: the same
  float shift = 0;                 // added to every value read
};

class ModelSource {
 public:
  /// Opens a Hugging Face folder, a run folder (its model/), a checkpoint, a .gguf file (or a folder with
  /// model.gguf) or a llama2.c .bin.
  /// Weights are mapped, not read. Throws UsageError where there is no model, Error on files that are broken
  /// or not supported.
  static std::unique_ptr<ModelSource> open(const std::filesystem::path& path);
  virtual ~ModelSource() = default;

  const ModelConfig& config() const { return config_; }
  const std::filesystem::path& path() const { return path_; }  // the folder with config.json, or the file
  virtual const char* format() const = 0;
  /// Throws Error naming the type where the file has it in one that cannot be read.
  virtual StoredParam find(const Param& p) const = 0;
  /// Throws Error where the files hold a tensor that none of the parameters is.
  virtual void check_all_used(const ParamStore& params) const = 0;
  /// What the files say of how a text becomes one vector. Throws Error where this program does otherwise.
  virtual EmbeddingSettings embedding() const { return {}; }

  /// The values of p, in its own order, as f32; the pages read no longer count as resident. Throws Error
  /// naming file, tensor, what was expected and what was found.
  virtual void read(const Param& p, float* values) const;

 protected:
  ModelSource(std::filesystem::path path, ModelConfig config)
      : path_(std::move(path)), config_(std::move(config)) {}
  [[noreturn]] void refuse_type(const std::string& name, const std::string& type) const;
  std::filesystem::path path_;
  ModelConfig config_;
};

}  // namespace llmtool
