// Folders that prove what they hold, and their locks.

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>

#include "llmtool/core/error.h"
#include "llmtool/io/files.h"
#include "llmtool/io/json.h"

namespace llmtool {

namespace fs = std::filesystem;

namespace {
constexpr const char* kManifest = "manifest.json";

/// XXH3-128 of a file, piece by piece, so that a large one does not become resident.
std::string digest(const MappedFile& file) {
  constexpr size_t kPiece = size_t{4} << 20;
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), XXH3_freeState);
  XXH3_128bits_reset(state.get());
  const std::span<const std::byte> bytes = file.bytes();
  for (size_t at = 0; at < bytes.size(); at += kPiece) {
    const auto piece = bytes.subspan(at, std::min(kPiece, bytes.size() - at));
    XXH3_128bits_update(state.get(), piece.data(), piece.size());
    release_pages(piece.data(), piece.size());
  }
  const XXH128_hash_t hash = XXH3_128bits_digest(state.get());
  return hex(hash.high64) + hex(hash.low64);
}

std::vector<fs::path> files_below(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file() && entry.path() != folder / kManifest) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}
}  // namespace

uint64_t hash64(std::span<const std::byte> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

std::string hex(uint64_t value) {
  char digits[17] = {};
  const auto end = std::to_chars(digits, digits + 16, value, 16).ptr;
  return std::string(16 - static_cast<size_t>(end - digits), '0') + std::string(digits, end);
}

void write_manifest(const fs::path& folder) {
  nlohmann::ordered_json files = nlohmann::ordered_json::object();
  for (const fs::path& file : files_below(folder)) {
    const MappedFile mapped(file);
    files[file.lexically_relative(folder).generic_string()] = {{"bytes", mapped.bytes().size()},
                                                               {"xxh3_128", digest(mapped)}};
  }
  write_file(folder / kManifest, nlohmann::ordered_json{{"files", files}}.dump(2) + "\n");
}

std::string verify_manifest(const fs::path& folder) {
  try {
    const nlohmann::json manifest = read_json(folder / kManifest);
    const JsonObject root(manifest, (folder / kManifest).string());
    if (!root.has("files")) return "manifest.json names no files";
    const JsonObject files(manifest.at("files"), root.origin());
    if (files.json().empty()) return "manifest.json names no files";
    for (const auto& [name, entry] : files.json().items()) {
      const JsonObject expected(entry, name);
      const fs::path relative(name);
      if (relative.is_absolute() || name.find("..") != std::string::npos)
        return name + ": leads out of the folder";
      const MappedFile file(folder / relative);
      const int64_t bytes = expected.integer("bytes", 0, int64_t{1} << 53);
      if (file.bytes().size() != static_cast<uint64_t>(bytes)) {
        return cat(name, ": expected ", bytes, " bytes, found ", file.bytes().size());
      }
      if (digest(file) != expected.string("xxh3_128")) return name + ": its hash differs";
    }
    return "";
  } catch (const Error& e) {
    return e.what();
  }
}

FolderLock::FolderLock(const fs::path& folder) {
  const fs::path file = folder / ".lock";
  fd_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd_ < 0) throw Error(cat(file.string(), ": cannot be written: ", std::strerror(errno)));
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) {
      const int reason = errno;
      ::close(fd_);
      throw Error(cat(file.string(), ": cannot be locked: ", std::strerror(reason)));
    }
    char holder[32] = {};
    const ssize_t n = ::pread(fd_, holder, sizeof holder - 1, 0);
    ::close(fd_);
    throw Error(cat(folder.string(), ": in use by another run", n > 0 ? cat(" (process ", holder, ")") : ""));
  }
  const std::string id = std::to_string(::getpid());
  if (::ftruncate(fd_, 0) != 0 || ::pwrite(fd_, id.data(), id.size(), 0) < 0) {
    const int reason = errno;
    ::close(fd_);
    throw Error(cat(file.string(), ": cannot be written: ", std::strerror(reason)));
  }
}

FolderLock::~FolderLock() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace llmtool
