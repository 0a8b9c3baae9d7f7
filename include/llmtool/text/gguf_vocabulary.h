#pragma once
// Vocabularies in GGUF files: tokenizer.ggml.*.

#include <memory>
#include <string>
#include <vector>

#include "llmtool/io/gguf.h"
#include "llmtool/text/tokenizer.h"

namespace llmtool {

/// Whether the file carries a vocabulary of a kind that can be read: tokenizer.ggml.model "llama", "t5",
/// "gpt2" or "bert".
bool has_gguf_vocabulary(const GgufMetadata& metadata);
/// The tokenizer of the file. Throws Error naming the key.
std::shared_ptr<const Tokenizer> tokenizer_of_gguf(const GgufMetadata& metadata);
/// Whether it is one of SentencePiece's: "llama" or "t5".
bool is_sentencepiece(const GgufMetadata& metadata);
/// Such a one as the bytes of a tokenizer.model. Throws Error naming the key.
std::string sentencepiece_of_gguf(const GgufMetadata& metadata);
/// The tokenizer_config.json that belongs to it.
std::string settings_of_gguf(const GgufMetadata& metadata);
/// The metadata that gives llama.cpp the same ids; empty where it has no such tokenizer (unigram, word and
/// char models). What it does with every file stays: it brings no text into a normal form, and its BERT drops
/// all marks, also those that stand for themselves (vowels of India's scripts).
std::vector<GgufEntry> gguf_vocabulary(const Tokenizer& tokenizer);

}  // namespace llmtool
