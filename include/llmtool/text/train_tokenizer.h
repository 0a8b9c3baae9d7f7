#pragma once
// Training of SentencePiece tokenizers.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace llmtool {

struct TokenizerTraining {
  std::string model_type = "unigram";  // unigram, bpe, word, char
  int64_t vocab_size = 8000;           // 0: every character (char only)
  double character_coverage = 0.9999;  // share of the text's characters that get a piece; char models: 1
  bool byte_fallback = true;           // characters without a piece become bytes (unigram and bpe)
  std::vector<std::string> user_symbols;
  int64_t max_lines = 2'000'000;  // lines sampled from a larger corpus, by seed; 0: all
  uint64_t seed = 1;
};

struct TokenizerTrainingResult {
  std::string model;        // the bytes of tokenizer.model
  int64_t vocab_size = 0;   // what it came to: small corpora may not give as many pieces as asked for
  int64_t split_lines = 0;  // lines longer than SentencePiece takes at once
  int64_t lines = 0;
};

/// Hands out the corpus piece by piece: sets `text` (UTF-8) and returns true, or returns false at the end.
/// The view is valid until the next call.
using TextSource = std::function<bool(std::string_view& text)>;

/// Text comes back unchanged from such a tokenizer: nothing is normalised and no space put in front; line
/// breaks (and tabs, where bytes cannot stand for them) are pieces of their own. U+2581, SentencePiece's sign
/// for a space, reads back as a space. Ids: 0 unknown, 1 EOS, which stands between documents and so begins a
/// text, too: there is no BOS. Throws UsageError on settings that cannot be.
TokenizerTrainingResult train_tokenizer(const TokenizerTraining& settings, const TextSource& source);

}  // namespace llmtool
