#pragma once
// Small valid files of every binary format, and reading a file whole, for tests of hostile bytes.

#include <filesystem>
#include <string>
#include <string_view>

namespace llmtool::test {

/// A file in memory that has a path, so that a reader of files can be given many contents fast.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view contents = {});
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  void set(std::string_view contents);
  std::filesystem::path path() const;

 private:
  int fd_;
};

/// Some two kilobytes each, with every type of metadata and several types of tensors.
std::string sample_gguf();
std::string sample_safetensors();
std::string sample_llama2c();

/// Opens the file, asks every getter for every key and turns every tensor into f32. Throws what the readers
/// throw: Error where the file is refused, and nothing else.
void read_whole_gguf(const std::filesystem::path& path);
void read_whole_safetensors(const std::filesystem::path& path);
void read_whole_llama2c(const std::filesystem::path& path);

}  // namespace llmtool::test
