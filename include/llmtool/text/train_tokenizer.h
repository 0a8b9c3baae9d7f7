#pragma once
// Training of SentencePiece and byte-level BPE tokenizers.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace llmtool {

struct TokenizerTraining {
  std::string model_type = "unigram";  // unigram, bpe, word, char, byte-bpe
  int64_t vocab_size = 8000;           // 0: every character (char only)
  double character_coverage = 0.9999;  // share of the text's characters that get a piece; char models: 1
  bool byte_fallback = true;           // characters without a piece become bytes (unigram and bpe)
  std::vector<std::string> user_symbols;
  int64_t min_frequency = 0;      // times that a pair must stand in the text to be merged (byte-bpe)
  int64_t max_lines = 2'000'000;  // lines sampled from a larger corpus, by seed; 0: all (as byte-bpe ever)
  uint64_t seed = 1;
};

struct TokenizerTrainingResult {
  std::string model;        // the bytes of tokenizer.model; of a byte-bpe, tokenizer.json
  int64_t vocab_size = 0;   // what it came to: small corpora may not give as many pieces as asked for
  int64_t split_lines = 0;  // lines longer than SentencePiece takes at once
  int64_t lines = 0;
};

/// Hands out the corpus piece by piece: sets `text` (UTF-8) and returns true, or returns false at the end.
/// The view is valid until the next call. An empty piece says that a document has ended: the next piece does
/// not go on with the last line.
using TextSource = std::function<bool(std::string_view& text)>;

/// Text comes back unchanged from such a tokenizer: nothing is normalised and no space put in front; line
/// breaks (and tabs, where bytes cannot stand for them) are pieces of their own. U+2581, SentencePiece's sign
/// for a space, reads back as a space. Ids: 0 unknown, 1 EOS, which stands between documents and so begins a
/// text, too: there is no BOS.
///
/// byte-bpe (GPT-2's) has all 256 bytes, so any text comes back, and no unknown; id 0 is <|endoftext|>, then
/// come the user symbols, the bytes, the merges. Those are the ones that Hugging Face's tokenizers learns
/// from files: every line with its line break is a text of its own.
///
/// Throws UsageError on settings that cannot be.
TokenizerTrainingResult train_tokenizer(const TokenizerTraining& settings, const TextSource& source);

/// Writes what training gave into a folder, which it makes, in place of a tokenizer that is there:
/// tokenizer.json, tokenizer_config.json, and of SentencePiece's kinds tokenizer.model.
void save_trained_tokenizer(const TokenizerTraining& settings, const TokenizerTrainingResult& result,
                            const std::filesystem::path& folder);

}  // namespace llmtool
