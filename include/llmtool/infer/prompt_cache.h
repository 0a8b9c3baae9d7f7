#pragma once
// Prompt caches: what a model keeps of a text it has read, in a file.

#include <filesystem>

#include "llmtool/infer/prompt_memory.h"

namespace llmtool {

/// What a prompt cache is bound to: its keys and values mean nothing to another model.
struct PromptCacheKey {
  uint64_t model = 0;      // fingerprint_of
  uint64_t tokenizer = 0;  // Tokenizer::hash; 0: none
  DType type = DType::f32;

  bool operator==(const PromptCacheKey&) const = default;
};

/// A hash of the config, of every tensor's name and a sample of its bytes (all of small ones; of large ones
/// 16 pieces of 4 KiB), and of the logits of a short text, which show what adapters do.
uint64_t fingerprint_of(const Transformer& model, ThreadPool& pool);

/// The bytes of a file: "LLMTKVC1", the key, sizes and an XXH3-64 of all that follows; ids (i32); of each
/// layer the first position held (i64), the keys and the values from there on. Little endian.
std::string prompt_cache_bytes(const PromptCacheKey& key, const ReadText& text);
/// Reads them again, behind `virtual_count` virtual tokens. Throws Error naming the file, what differs and
/// what to do: nothing is taken from a damaged file or one of another model.
ReadText read_prompt_cache(std::span<const std::byte> bytes, const std::string& origin,
                           const PromptCacheKey& key, const ModelConfig& config,
                           std::span<const int32_t> virtual_ids, bool whole);

/// The file of --prompt-cache: read where it is there, and written with the first text of a run where it is
/// not. What it holds, often a header that many prompts begin with, then stays but for texts at least twice
/// as long that begin alike: all of it but less than kWorthCopying ids.
class PromptCacheFile {
 public:
  PromptCacheFile(std::filesystem::path path, const Transformer& model, const Tokenizer* tokenizer,
                  ThreadPool& pool, DType type);
  /// Empty where there is no file yet.
  ReadText read(bool whole) const;
  /// Only the first call does something. Warns where the file cannot be written: no answer depends on it.
  void offer(const ReadText& text);

 private:
  std::filesystem::path path_;
  const Transformer& model_;
  PromptCacheKey key_;
  mutable std::vector<TokenId> known_;  // the ids of the file
  bool offered_ = false;
};

}  // namespace llmtool
