#include "llmtool/data/token_shard.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "llmtool/core/error.h"

namespace llmtool {

namespace {
constexpr char kMagic[] = "llmtoks\n";
constexpr size_t kHeader = 64;

struct Header {
  char magic[8];
  uint32_t version, width;
  uint64_t count, hash;
  int32_t eos;
  char zero[28];
};
static_assert(sizeof(Header) == kHeader);

template <class T>
T read_at(std::span<const std::byte> bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}
}  // namespace

bool TokenShard::looks_like_one(const std::filesystem::path& path) { return path.extension() == ".bin"; }

TokenShard::TokenShard(const std::filesystem::path& path) : file_(path) {
  const std::span<const std::byte> bytes = file_.bytes();
  size_t start = 0;
  uint64_t expected = 0;
  if (bytes.size() >= kHeader && std::memcmp(bytes.data(), kMagic, 8) == 0) {
    const auto header = read_at<Header>(bytes, 0);
    if (header.version != 1) throw Error(cat(path.string(), ": version: expected 1, found ", header.version));
    if (header.width != 2 && header.width != 4) {
      throw Error(cat(path.string(), ": bytes per token: expected 2 or 4, found ", header.width));
    }
    width_ = static_cast<int>(header.width);
    expected = header.count;
    hash_ = header.hash;
    eos_ = header.eos;
    start = kHeader;
  } else if (const int32_t magic = bytes.size() >= 1024 ? read_at<int32_t>(bytes, 0) : 0;
             magic == 20240520 || magic == 20240801) {
    const auto version = read_at<int32_t>(bytes, 4), count = read_at<int32_t>(bytes, 8);
    const int32_t known = magic == 20240520 ? 1 : 7;
    if (version != known) throw Error(cat(path.string(), ": version: expected ", known, ", found ", version));
    if (count < 0) throw Error(cat(path.string(), ": number of tokens: found ", count));
    width_ = magic == 20240520 ? 2 : 4;
    expected = static_cast<uint64_t>(count);
    start = 1024;
  } else {
    if (bytes.size() % 2 != 0)
      throw Error(cat(path.string(), ": expected an even number of bytes (uint16 ids)"));
    expected = bytes.size() / 2;
  }
  const uint64_t there = (bytes.size() - start) / static_cast<uint64_t>(width_);
  if (there != expected || (bytes.size() - start) % static_cast<uint64_t>(width_) != 0) {
    throw Error(
        cat(path.string(), ": expected ", expected, " tokens, found ", there, "; is the file cut off?"));
  }
  ids_ = bytes.data() + start;
  count_ = static_cast<int64_t>(expected);
}

TokenId TokenShard::operator[](int64_t i) const {
  TokenId id = 0;
  copy(i, 1, &id);
  return id;
}

void TokenShard::copy(int64_t first, int64_t count, TokenId* ids) const {
  if (first < 0 || count < 0 || first > count_ - count) {
    throw Error(cat(path().string(), ": expected tokens below ", count_, ", asked for ", first, " to ",
                    first + count));
  }
  for (int64_t i = 0; i < count; ++i) {
    if (width_ == 2) {
      uint16_t id;
      std::memcpy(&id, ids_ + (first + i) * 2, 2);
      ids[i] = id;
    } else {
      uint32_t id;
      std::memcpy(&id, ids_ + (first + i) * 4, 4);
      ids[i] = id > INT32_MAX ? INT32_MAX : static_cast<TokenId>(id);  // outside every vocabulary either way
    }
  }
}

TokenId TokenShard::largest() const {
  TokenId most = 0;
  std::vector<TokenId> block(1 << 16);
  for (int64_t first = 0; first < count_; first += 1 << 16) {
    const int64_t n = std::min<int64_t>(1 << 16, count_ - first);
    copy(first, n, block.data());
    most = std::max(most, *std::max_element(block.begin(), block.begin() + n));
  }
  return most;
}

TokenShardWriter::TokenShardWriter(const std::filesystem::path& path, const Tokenizer& tokenizer)
    : file_(path),
      hash_(tokenizer.hash()),
      eos_(tokenizer.eos_id()),
      width_(tokenizer.vocab_size() <= 65536 ? 2 : 4) {
  const std::array<char, kHeader> empty{};
  file_.write(empty.data(), empty.size());
}

void TokenShardWriter::write(std::span<const TokenId> ids) {
  if (width_ == 4) {
    file_.write(ids.data(), ids.size_bytes());
  } else {
    const std::vector<uint16_t> narrow(ids.begin(), ids.end());
    file_.write(narrow.data(), narrow.size() * 2);
  }
  count_ += static_cast<int64_t>(ids.size());
}

void TokenShardWriter::finish() {
  Header header{};
  std::memcpy(header.magic, kMagic, 8);
  header.version = 1;
  header.width = static_cast<uint32_t>(width_);
  header.count = static_cast<uint64_t>(count_);
  header.hash = hash_;
  header.eos = eos_;
  file_.rewrite(0, &header, sizeof header);
  file_.commit();
}

}  // namespace llmtool
