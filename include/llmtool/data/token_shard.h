#pragma once
// Token shards: ids in a file, read by memory map.
//
// Layout, little-endian: 8 bytes magic "llmtoks\n"; u32 version 1; u32 bytes per token (2 or 4); u64 number
// of tokens; u64 hash of the tokenizer (XXH3-64 of its file); i32 id that ends a document, -1 for none; 28
// bytes of zero; then at byte 64 the ids, uint16 or uint32.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>

#include "llmtool/io/files.h"
#include "llmtool/text/tokenizer.h"

namespace llmtool {

/// Reads our own shards, llm.c's .bin (magic 20240520, version 1, uint16; 20240801, version 7, uint32) and
/// nanoGPT's (uint16 without a header). Throws Error naming the file.
class TokenShard {
 public:
  explicit TokenShard(const std::filesystem::path& path);

  int64_t size() const { return count_; }  // tokens
  TokenId operator[](int64_t i) const;
  void copy(int64_t first, int64_t count, TokenId* ids) const;
  TokenId largest() const;                                          // reads everything
  std::optional<uint64_t> tokenizer_hash() const { return hash_; }  // of our own shards
  TokenId eos() const { return eos_; }                              // -1: not said
  const std::filesystem::path& path() const { return file_.path(); }

  static bool looks_like_one(const std::filesystem::path& path);  // by its name: .bin

 private:
  MappedFile file_;
  const std::byte* ids_ = nullptr;
  int64_t count_ = 0;
  int width_ = 2;
  TokenId eos_ = -1;
  std::optional<uint64_t> hash_;
};

/// Writes a shard beside its place and moves it there when it is whole.
class TokenShardWriter {
 public:
  TokenShardWriter(const std::filesystem::path& path, const Tokenizer& tokenizer);

  void write(std::span<const TokenId> ids);
  void finish();
  int64_t count() const { return count_; }

 private:
  AtomicFile file_;
  uint64_t hash_;
  TokenId eos_;
  int width_;
  int64_t count_ = 0;
};

}  // namespace llmtool
