#pragma once
// Vocabularies in GGUF files: tokenizer.ggml.*.

#include <string>
#include <vector>

#include "llmtool/io/gguf.h"
#include "llmtool/text/tokenizer.h"

namespace llmtool {

/// Whether the file carries a vocabulary that can be read: tokenizer.ggml.model "llama", which is
/// SentencePiece's BPE.
bool has_gguf_vocabulary(const GgufMetadata& metadata);
/// That vocabulary as the bytes of a tokenizer.model. Throws Error naming the key.
std::string sentencepiece_of_gguf(const GgufMetadata& metadata);
/// The tokenizer_config.json that belongs to it.
std::string settings_of_gguf(const GgufMetadata& metadata);
/// The metadata that gives llama.cpp the same ids; empty where it has no such tokenizer (unigram, word and
/// char models).
std::vector<GgufEntry> gguf_vocabulary(const Tokenizer& tokenizer);

}  // namespace llmtool
