#pragma once
// Training of byte-level BPE tokenizers (Radford et al. 2019, "Language Models are Unsupervised Multitask
// Learners", section 2.2).

#include "llmtool/text/train_tokenizer.h"

namespace llmtool {

/// Learns the merges that Hugging Face's tokenizers learns with its BpeTrainer on the same text: cut by
/// GPT-2's pre-tokenization, all 256 bytes in the vocabulary, settings.min_frequency. Every line with its
/// line break
/// ("\n" alone is one) is a text of its own, as when that library trains on files; a document's last line may
/// lack it. Ids: 0 is <|endoftext|>, then come the user symbols, the bytes in the order of their signs, the
/// merges. All lines are read (max_lines is not used); what is held in memory is the different words.
///
/// result.model holds the bytes of tokenizer.json as the library writes it. Throws UsageError on settings
/// that cannot be, Error where the source has no text.
TokenizerTrainingResult train_byte_bpe(const TokenizerTraining& settings, const TextSource& source);

}  // namespace llmtool
