#pragma once
// Vocabularies of other formats as the content of a tokenizer.json.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "llmtool/io/gguf.h"
#include "text/pipeline_tokenizer.h"
#include "text/tokenizer_settings.h"

namespace llmtool {

/// The settings with the special tokens that the class of tokenizer has where nothing is said.
TokenizerSettings with_usual_tokens(TokenizerSettings settings);
/// GPT-2's vocab.json and merges.txt.
nlohmann::json document_of_merges(const TokenizerSettings& settings, const std::string& origin);
/// BERT's vocab.txt.
nlohmann::json document_of_word_list(const TokenizerSettings& settings, const std::string& origin);
/// tokenizer.ggml.* of the models "gpt2" and "bert".
nlohmann::json document_of_gguf(const GgufMetadata& metadata);

/// The parts for tiktoken's ranks: a line each of base64 and a number. The encoding is known by the file's
/// name or the number of ranks.
Pipeline pipeline_of_tiktoken(const std::string& text, const std::string& name, const std::string& origin);
/// Whether a file's content looks like such ranks.
bool looks_like_tiktoken(std::string_view text);

// Parts that several of them share.
/// The tokens that `settings` names and that tokenizer_config.json and added_tokens.json add, joined to the
/// document's added_tokens where they are not there yet.
void add_named_tokens(nlohmann::json& document, const TokenizerSettings& settings, const std::string& origin);
nlohmann::json empty_document();
std::string text_of_document(const nlohmann::json& document);
nlohmann::json added_token(int64_t id, const std::string& content, bool special);
nlohmann::json split_step(const std::string& pattern);
nlohmann::json byte_level_step(bool add_prefix_space, bool use_regex);
nlohmann::json sequence_step(const char* key, std::vector<nlohmann::json> steps);

}  // namespace llmtool
