// Shards of every format, and files that only look like one.

#include "llmtool/data/token_shard.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "llmtool/core/error.h"
#include "llmtool/text/train_tokenizer.h"
#include "support.h"

namespace llmtool {
namespace {

namespace fs = std::filesystem;

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

std::vector<TokenId> all(const TokenShard& shard) {
  std::vector<TokenId> ids(static_cast<size_t>(shard.size()));
  shard.copy(0, shard.size(), ids.data());
  return ids;
}

std::shared_ptr<const Tokenizer> small_tokenizer(const test::TempFolder& place) {
  TokenizerTraining s;
  s.model_type = "char";
  s.vocab_size = 0;
  bool given = false;
  const auto result = train_tokenizer(s, [&](std::string_view& text) {
    text = "abc def\nghi";
    return !std::exchange(given, true);
  });
  test::write_text(place / "tokenizer.model", result.model);
  return load_tokenizer(place / "tokenizer.model");
}

TEST(TokenShard, WhatIsWrittenIsRead) {
  test::TempFolder place;
  const auto tokenizer = small_tokenizer(place);
  std::vector<TokenId> ids;
  for (int i = 0; i < 100000; ++i) ids.push_back(i * 7 % 9);
  TokenShardWriter writer(place / "a.bin", *tokenizer);
  writer.write(std::span(ids).first(1));
  writer.write(std::span(ids).subspan(1, 70000));
  writer.write({});
  writer.write(std::span(ids).subspan(70001));
  EXPECT_FALSE(fs::exists(place / "a.bin")) << "half a shard";
  writer.finish();
  const TokenShard shard(place / "a.bin");
  EXPECT_EQ(all(shard), ids);
  EXPECT_EQ(shard.tokenizer_hash(), tokenizer->hash());
  EXPECT_EQ(shard.eos(), 1);
  EXPECT_EQ(shard.largest(), 8);
  EXPECT_EQ(shard[99999], ids[99999]);
  TokenId id = 0;
  EXPECT_THROW(shard.copy(99999, 2, &id), Error);
  EXPECT_THROW(shard.copy(-1, 1, &id), Error);
}

TEST(TokenShard, AWriterThatIsNotFinishedLeavesNothing) {
  test::TempFolder place;
  const auto tokenizer = small_tokenizer(place);
  fs::create_directory(place / "out");
  const TokenId ids[] = {1, 2};
  { TokenShardWriter(place / "out" / "a.bin", *tokenizer).write(ids); }
  EXPECT_TRUE(fs::is_empty(place / "out"));
}

TEST(TokenShard, ReadsNanoGptAndLlmC) {
  test::TempFolder place;
  test::write_text(place / "nano.bin", bytes_of<uint16_t>({5, 50256, 65535, 0}));
  EXPECT_EQ(all(TokenShard(place / "nano.bin")), (std::vector<TokenId>{5, 50256, 65535, 0}));
  std::vector<int32_t> header(256);
  header[0] = 20240520;
  header[1] = 1;
  header[2] = 3;
  test::write_text(place / "gpt2.bin", bytes_of(header) + bytes_of<uint16_t>({1, 2, 50256}));
  EXPECT_EQ(all(TokenShard(place / "gpt2.bin")), (std::vector<TokenId>{1, 2, 50256}));
  header[0] = 20240801;
  header[1] = 7;
  header[2] = 2;
  test::write_text(place / "llama3.bin", bytes_of(header) + bytes_of<uint32_t>({128255, 3}));
  const TokenShard wide(place / "llama3.bin");
  EXPECT_EQ(all(wide), (std::vector<TokenId>{128255, 3}));
  EXPECT_FALSE(wide.tokenizer_hash());
}

TEST(TokenShard, FilesThatLieAreRefused) {
  test::TempFolder place;
  const auto refused = [&](const std::string& bytes, const std::string& said) {
    test::write_text(place / "x.bin", bytes);
    try {
      TokenShard shard(place / "x.bin");
      ADD_FAILURE() << "accepted: " << said;
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("x.bin"), std::string::npos);
      EXPECT_NE(std::string(e.what()).find(said), std::string::npos) << e.what();
    }
  };
  std::string own("llmtoks\n\1\0\0\0\2\0\0\0\2\0\0\0\0\0\0\0", 24);
  own.resize(64);
  std::string changed = own + "abcd";
  EXPECT_NO_THROW((test::write_text(place / "x.bin", changed), TokenShard(place / "x.bin")));
  refused(own + "abc", "cut off");
  refused(own + "abcdef", "cut off");
  refused(own, "cut off");
  changed[8] = 9;
  refused(changed, "version");
  changed[8] = 1;
  changed[12] = 3;
  refused(changed, "bytes per token");
  changed[12] = 2;
  for (int i = 16; i < 24; ++i) changed[static_cast<size_t>(i)] = '\xff';  // 2^64 - 1 tokens
  refused(changed, "cut off");
  refused("abc", "even");
  std::vector<int32_t> header(256);
  header[0] = 20240520;
  header[1] = 2;
  refused(bytes_of(header), "version");
  header[1] = 1;
  header[2] = -1;
  refused(bytes_of(header), "number of tokens");
  header[2] = 1 << 30;
  refused(bytes_of(header), "cut off");
  EXPECT_THROW(TokenShard(place / "none.bin"), Error);
  test::write_text(place / "empty.bin", "");
  EXPECT_EQ(TokenShard(place / "empty.bin").size(), 0);
}

}  // namespace
}  // namespace llmtool
