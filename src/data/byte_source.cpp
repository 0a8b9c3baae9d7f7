#include "data/byte_source.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "llmtool/core/error.h"

namespace llmtool {

namespace {
/// Gzip, or plain bytes where the file is no gzip.
class GzipSource : public ByteSource {
 public:
  explicit GzipSource(const std::string& path) : name_(path == "-" ? "standard input" : path) {
    const int fd = path == "-" ? ::dup(0) : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) throw Error(cat(name_, ": cannot be opened: ", std::strerror(errno)));
    file_ = ::gzdopen(fd, "rb");
    if (!file_) {
      ::close(fd);
      throw Error(name_ + ": cannot be read");
    }
    ::gzbuffer(file_, 1 << 17);
  }
  ~GzipSource() override { ::gzclose(file_); }
  GzipSource(const GzipSource&) = delete;
  GzipSource& operator=(const GzipSource&) = delete;

  size_t read(char* data, size_t size) override {
    const int n = ::gzread(file_, data, static_cast<unsigned>(std::min<size_t>(size, 1 << 30)));
    int code = Z_OK;
    const char* message = ::gzerror(file_, &code);
    if (n < 0 || (code != Z_OK && code != Z_STREAM_END)) {
      throw Error(cat(name_, ": cannot be read: ", code == Z_ERRNO ? std::strerror(errno) : message));
    }
    return static_cast<size_t>(n);
  }

 private:
  std::string name_;
  gzFile file_ = nullptr;
};

class ZstdSource : public ByteSource {
 public:
  explicit ZstdSource(const std::string& path)
      : name_(path), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (fd_ < 0) throw Error(cat(path, ": cannot be opened: ", std::strerror(errno)));
    packed_.resize(ZSTD_DStreamInSize());
    input_ = {packed_.data(), 0, 0};
    // A frame may ask for a window of any size; 128 MB is what the format's own tools grant.
    ZSTD_DCtx_setParameter(stream_.get(), ZSTD_d_windowLogMax, 27);
  }
  ~ZstdSource() override { ::close(fd_); }
  ZstdSource(const ZstdSource&) = delete;
  ZstdSource& operator=(const ZstdSource&) = delete;

  size_t read(char* data, size_t size) override {
    ZSTD_outBuffer output{data, size, 0};
    while (output.pos == 0) {
      if (input_.pos == input_.size && !fill()) {
        if (unfinished_) throw Error(name_ + ": cannot be read: the file is cut off");
        return 0;
      }
      const size_t left = ZSTD_decompressStream(stream_.get(), &output, &input_);
      if (ZSTD_isError(left)) throw Error(cat(name_, ": cannot be read: ", ZSTD_getErrorName(left)));
      unfinished_ = left != 0;
    }
    return output.pos;
  }

 private:
  bool fill() {
    ssize_t n;
    do {
      n = ::read(fd_, packed_.data(), packed_.size());
    } while (n < 0 && errno == EINTR);
    if (n < 0) throw Error(cat(name_, ": cannot be read: ", std::strerror(errno)));
    input_ = {packed_.data(), static_cast<size_t>(n), 0};
    return n > 0;
  }

  struct Free {
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  };
  std::string name_;
  int fd_;
  std::unique_ptr<ZSTD_DCtx, Free> stream_{ZSTD_createDCtx()};
  std::vector<char> packed_;
  ZSTD_inBuffer input_{};
  bool unfinished_ = false;
};
}  // namespace

std::unique_ptr<ByteSource> open_bytes(const std::string& path) {
  if (path.ends_with(".zst")) return std::make_unique<ZstdSource>(path);
  return std::make_unique<GzipSource>(path);
}

}  // namespace llmtool
