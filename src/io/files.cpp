#include "llmtool/io/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <random>

#include "llmtool/core/error.h"

namespace llmtool {

namespace fs = std::filesystem;

namespace {
[[noreturn]] void fail(const fs::path& path, const char* what) {
  throw Error(cat(path.string(), ": ", what, ": ", std::strerror(errno)));
}

/// A file descriptor that closes itself.
struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};
}  // namespace

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  // Not blocking: a named pipe is refused below rather than waited for.
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.fd < 0) fail(path, "cannot be opened");
  struct stat info {};
  if (::fstat(file.fd, &info) != 0) fail(path, "cannot be read");
  if (!S_ISREG(info.st_mode)) throw Error(cat(path.string(), ": expected a file"));
  size_ = static_cast<size_t>(info.st_size);
  if (size_ == 0) return;
  void* const data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (data == MAP_FAILED) fail(path, "cannot be mapped");
  data_ = static_cast<const std::byte*>(data);
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(path_, other.path_);
  return *this;
}

void release_pages(const void* data, size_t bytes) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page;
  const auto end = (reinterpret_cast<uintptr_t>(data) + bytes) / page * page;
  if (end > begin) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

std::string read_file(const fs::path& path, size_t max_bytes) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0) fail(path, "cannot be opened");
  std::string contents;
  char buffer[1 << 16];
  while (true) {
    const ssize_t n = ::read(file.fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(path, "cannot be read");
    if (n == 0) return contents;
    contents.append(buffer, static_cast<size_t>(n));
    if (contents.size() > max_bytes)
      throw Error(cat(path.string(), ": expected at most ", max_bytes, " bytes"));
  }
}

void sync_folder(const fs::path& folder) {
  const fs::path place = folder.empty() ? fs::path(".") : folder;
  const Descriptor file{::open(place.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (file.fd < 0 || ::fsync(file.fd) != 0) fail(place, "cannot be synchronised");
}

void write_file(const fs::path& path, std::string_view contents) {
  AtomicFile file(path);
  file.write(contents.data(), contents.size());
  file.commit();
}

namespace {
constexpr const char* kMark =
    ".llmtool-";  // and eight hexadecimal digits: no file of the user's has such a name

/// What writers that were killed have left beside the file: nobody holds a lock on it.
void remove_stale(const fs::path& path) {
  const std::string beginning = path.filename().string() + kMark;
  const fs::path folder = path.parent_path();
  std::error_code ignored;
  for (fs::directory_iterator at(folder.empty() ? "." : folder, ignored), end; !ignored && at != end;
       at.increment(ignored)) {
    const fs::path& other = at->path();
    const std::string name = other.filename().string();
    if (!name.starts_with(beginning) || name.size() != beginning.size() + 8 ||
        name.find_first_not_of("0123456789abcdef", beginning.size()) != std::string::npos)
      continue;
    const Descriptor file{::open(other.c_str(), O_WRONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW)};
    if (file.fd >= 0 && ::flock(file.fd, LOCK_EX | LOCK_NB) == 0) ::unlink(other.c_str());
  }
}
}  // namespace

AtomicFile::AtomicFile(const fs::path& path) : path_(path) {
  remove_stale(path);
  std::random_device random;
  while (!writer_) {
    char suffix[16];
    std::snprintf(suffix, sizeof suffix, "%08x", static_cast<unsigned>(random()));
    temporary_ = path.string() + kMark + suffix;
    const int fd = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 && errno == EEXIST) continue;
    if (fd < 0) fail(path, "cannot be written");
    writer_.emplace(path, fd);
    // Another writer may take it for stale until it is locked. Where locks are unknown nobody does.
    struct stat info {};
    const bool taken = (::flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) ||
                       (::fstat(fd, &info) == 0 && info.st_nlink == 0);
    if (!taken) continue;
    writer_.reset();
    ::unlink(temporary_.c_str());
  }
}

AtomicFile::~AtomicFile() {
  if (!committed_) ::unlink(temporary_.c_str());
}

void AtomicFile::commit() {
  writer_->sync();
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail(path_, "cannot be replaced");
  committed_ = true;
  writer_.reset();  // and with it the lock, which nobody heeds under the new name
  sync_folder(path_.parent_path());
}

FileWriter::FileWriter(const fs::path& path)
    : path_(path), fd_(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {
  if (fd_ < 0) fail(path, "cannot be written");
}

FileWriter::~FileWriter() {
  if (fd_ >= 0) ::close(fd_);
}

void FileWriter::write(const void* data, size_t bytes) {
  const char* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::write(fd_, from, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(path_, "cannot be written");
    from += n;
    bytes -= static_cast<size_t>(n);
  }
}

void FileWriter::rewrite(size_t offset, const void* data, size_t bytes) {
  if (::pwrite(fd_, data, bytes, static_cast<off_t>(offset)) != static_cast<ssize_t>(bytes)) {
    fail(path_, "cannot be written");
  }
}

void FileWriter::sync() {
  if (::fsync(fd_) != 0) fail(path_, "cannot be synchronised");
}

void FileWriter::close() {
  sync();
  const int fd = fd_;
  fd_ = -1;
  if (::close(fd) != 0) fail(path_, "cannot be closed");
}

}  // namespace llmtool
