#pragma once
// The safetensors format: 8 bytes of header length, a JSON header, the tensors' bytes.
// Specification: https://github.com/huggingface/safetensors (format section of its README).

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "llmtool/core/tensor.h"
#include "llmtool/io/files.h"

namespace llmtool {

/// One file, mapped; the tensors point into it (not aligned). F32, BF16, F16, F8_E4M3,
/// F8_E5M2 and I32 are readable as Tensor;
/// tensors of the specification's other types, or of more than four dimensions, are listed by name and type.
/// Every offset, size and product is checked. Format: https://github.com/huggingface/safetensors#format
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);
  const std::map<std::string, Tensor>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::map<std::string, std::string>& unreadable() const { return unreadable_; }
  /// The f32 tensor of that name, of the shape of `to`, into `to`. Throws Error naming file and tensor.
  void copy_f32(const std::string& name, const Tensor& to) const;

 private:
  MappedFile file_;
  std::map<std::string, Tensor> tensors_;
  std::map<std::string, std::string> metadata_, unreadable_;
};

/// The tensors of a model folder: model.safetensors, or the shards that model.safetensors.index.json lists.
class SafetensorsFolder {
 public:
  explicit SafetensorsFolder(const std::filesystem::path& folder);
  const std::map<std::string, Tensor>& tensors() const { return tensors_; }
  /// Name and type of tensors that cannot be read: masks and position ids of old files, or packed weights.
  const std::map<std::string, std::string>& unreadable() const { return unreadable_; }

 private:
  std::vector<SafetensorsFile> files_;
  std::map<std::string, Tensor> tensors_;
  std::map<std::string, std::string> unreadable_;
};

struct NamedTensor {
  std::string name;
  Tensor tensor;           // f32, or already as stored
  DType stored;            // f32, bf16, f16 (f32 is rounded to nearest even while writing), i32 or an f8
  bool transpose = false;  // stored as (cols, rows); rank 2 only
  std::vector<int64_t> file_rows = {};  // row r is stored as row file_rows[r]; empty: the same
  /// Where given, called when the tensor's turn comes: its values, of the shape and type of `tensor`, whose
  /// data is then not used.
  std::function<Tensor()> fetch = {};
};

/// Writes one file from front to back and fsyncs it; the data starts at a multiple of 64 bytes.
void write_safetensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata);

}  // namespace llmtool
