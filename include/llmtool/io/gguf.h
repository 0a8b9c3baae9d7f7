#pragma once
// GGUF, llama.cpp's one-file format: typed metadata, then tensors, many of them in ggml's blocks.
// Specification: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "llmtool/core/tensor.h"
#include "llmtool/io/files.h"

namespace llmtool {

/// The format's numbers for the types of metadata.
enum class GgufType : uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12
};

/// One value as it lies in the file: `count` elements (1 unless it is a list) of `type`, checked, not copied.
struct GgufValue {
  GgufType type;                     // of the elements; never array, as lists of lists are refused
  bool list;                         // stored as an array
  uint64_t count;                    // elements
  uint64_t offset;                   // of the first element in the file
  std::span<const std::byte> bytes;  // the elements: little-endian numbers, or lengths (8 bytes) and texts
};

/// The metadata with checked getters. Each throws Error naming the file, the key, its offset, what was
/// expected and what was found; the second form of each gives `fallback` where the key is absent.
/// Strings are as stored, which need not be UTF-8.
class GgufMetadata {
 public:
  bool has(const std::string& key) const { return values_.contains(key); }
  int64_t integer(const std::string& key, int64_t min, int64_t max) const;  // of any integer type
  int64_t integer(const std::string& key, int64_t min, int64_t max, int64_t fallback) const;
  double number(const std::string& key) const;  // of any type of number; finite
  double number(const std::string& key, double fallback) const;
  bool boolean(const std::string& key, bool fallback) const;
  std::string string(const std::string& key) const;
  std::string string(const std::string& key, const std::string& fallback) const;
  /// A list, or one value as a list of one; empty where the key is absent.
  std::vector<int64_t> integers(const std::string& key, int64_t min, int64_t max) const;
  std::vector<float> numbers(const std::string& key) const;
  std::vector<bool> booleans(const std::string& key) const;
  std::vector<std::string> strings(const std::string& key) const;
  const std::map<std::string, GgufValue>& values() const { return values_; }
  const std::string& origin() const { return origin_; }  // the file's name

 private:
  friend class GgufReader;
  const GgufValue* find(const std::string& key) const;
  const GgufValue& one(const std::string& key, const char* expected) const;
  [[noreturn]] void refuse(const std::string& key, const std::string& expected,
                           const std::string& found) const;
  std::string origin_;
  std::map<std::string, GgufValue> values_;
};

/// One file (version 2 or 3, little-endian), mapped. Tensors point into it, aligned to the file's alignment
/// (32 unless general.alignment says otherwise); their shapes are row-major, that is ggml's dimensions
/// reversed. Every size, count, offset and product is checked before it is used, and the offsets must be
/// those that the format prescribes: one tensor after the other, each padded to the alignment.
class GgufFile {
 public:
  explicit GgufFile(const std::filesystem::path& path);
  uint32_t version() const { return version_; }
  const GgufMetadata& metadata() const { return metadata_; }
  const std::map<std::string, Tensor>& tensors() const { return tensors_; }
  /// Name and ggml type ("IQ1_S") of tensors that cannot be read: of a type that no Tensor can hold, or all
  /// of them in a file that ends at its header.
  const std::map<std::string, std::string>& unreadable() const { return unreadable_; }
  bool header_only() const { return header_only_; }  // tensors are described, but no byte of them follows

 private:
  friend class GgufReader;
  MappedFile file_;
  uint32_t version_ = 0;
  GgufMetadata metadata_;
  std::map<std::string, Tensor> tensors_;
  std::map<std::string, std::string> unreadable_;
  bool header_only_ = false;
};

/// Metadata to write; a GgufValue is copied as it is.
struct GgufEntry {
  using Value = std::variant<bool, uint32_t, int32_t, uint64_t, int64_t, float, double, std::string,
                             std::vector<bool>, std::vector<uint8_t>, std::vector<uint32_t>,
                             std::vector<int32_t>, std::vector<float>, std::vector<std::string>, GgufValue>;
  std::string key;
  Value value;
};

/// What a file will hold: shape row-major, as in Tensor; stored as f32, f16, bf16, i32 or a block type.
struct GgufTensor {
  std::string name;  // at most 63 bytes
  Shape shape;
  DType stored;
};

/// Writes a file of version 3 from front to back: the header at once, then the tensors in the order
/// announced, one at a time. The target appears with `commit`, whole and fsynced, or not at all. Throws Error
/// on names or keys that stand twice or are too long, types that ggml lacks, and rows that are not whole
/// blocks.
class GgufWriter {
 public:
  /// f32 to a storage type, as from_f32 of kernels/convert.h does it, which this area may not include.
  using Convert = void (*)(const float* x, void* y, DType dtype, int64_t n);

  GgufWriter(const std::filesystem::path& path, const std::vector<GgufEntry>& metadata,
             std::vector<GgufTensor> tensors);
  /// The next tensor, whole or one entry of its first dimension after the other: of its announced type or,
  /// where `convert` is given, f32. Converts a piece at a time.
  void write(const Tensor& tensor, Convert convert = nullptr);
  void commit();  // throws Error unless every tensor has been written

 private:
  void pad(uint64_t bytes);
  std::string name_;
  AtomicFile file_;
  std::vector<GgufTensor> tensors_;
  size_t next_ = 0;
  int64_t slices_ = 0;  // of the next tensor that are written
};

}  // namespace llmtool
