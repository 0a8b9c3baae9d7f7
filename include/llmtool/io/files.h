#pragma once
// Files: mapped reading, writing that is whole or not at all, and folders that prove what they hold.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace llmtool {

/// A file mapped read-only. Throws Error naming the file.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&&) noexcept;
  MappedFile& operator=(MappedFile&&) noexcept;
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  std::filesystem::path path_;
};

/// Says that these bytes of a mapped file will not be read again soon: they stop counting as resident.
void release_pages(const void* data, size_t bytes);

std::string read_file(const std::filesystem::path& path, size_t max_bytes = size_t{1} << 30);
/// Writes beside the target, fsyncs, renames over it, fsyncs the folder. Throws Error (disk full, read-only)
/// and leaves the old file as it was.
void write_file(const std::filesystem::path& path, std::string_view contents);

/// A file being written from front to back; errors throw Error with the path and the system's reason.
class FileWriter {
 public:
  explicit FileWriter(const std::filesystem::path& path);
  /// Of a descriptor that is open; `path` is for messages.
  FileWriter(const std::filesystem::path& path, int fd) : path_(path), fd_(fd) {}
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;
  void write(const void* data, size_t bytes);
  void rewrite(size_t offset, const void* data, size_t bytes);  // of what has been written
  void sync();                                                  // fsync
  void close();  // fsync and close; the destructor closes without a promise

 private:
  std::filesystem::path path_;
  int fd_ = -1;
};

void sync_folder(const std::filesystem::path& folder);  // fsync of the directory itself

/// A file that is whole or not there: written beside the target, which `commit` replaces. Without a commit
/// the destructor removes what was written and the old file stays as it was. Each of several writers has a
/// file of its own, target.llmtool-XXXXXXXX, which it holds a lock on: one of a writer that was killed goes with
/// the next.
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(const void* data, size_t bytes) { writer_->write(data, bytes); }
  void rewrite(size_t offset, const void* data, size_t bytes) { writer_->rewrite(offset, data, bytes); }
  void commit();  // fsync, rename, fsync of the folder

 private:
  std::filesystem::path path_, temporary_;
  std::optional<FileWriter> writer_;
  bool committed_ = false;
};

/// manifest.json of a folder: size and XXH3-128 of every file below it. write_manifest fsyncs the manifest.
void write_manifest(const std::filesystem::path& folder);
/// "" when every file is there with its size and hash, else what is wrong.
std::string verify_manifest(const std::filesystem::path& folder);

/// Advisory lock on `folder`/.lock; throws Error naming the folder and the process that holds it.
class FolderLock {
 public:
  explicit FolderLock(const std::filesystem::path& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int fd_ = -1;
};

uint64_t hash64(std::span<const std::byte> bytes);  // XXH3-64
std::string hex(uint64_t value);                    // 16 digits

}  // namespace llmtool
