#pragma once
// Bytes of a file, unpacked.

#include <memory>
#include <string>

namespace llmtool {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// Reads up to `size` bytes; 0 at the end. Throws Error naming the file.
  virtual size_t read(char* data, size_t size) = 0;
};

/// `path` "-" is standard input (plain or gzip); .gz and .zst are unpacked.
std::unique_ptr<ByteSource> open_bytes(const std::string& path);

}  // namespace llmtool
