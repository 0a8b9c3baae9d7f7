#pragma once
// The pre-tokenizers that GGUF files and tiktoken's encodings name.

#include <string>
#include <string_view>
#include <vector>

namespace llmtool {

struct NamedPreTokenizer {
  std::vector<std::string_view> names;        // values of tokenizer.ggml.pre
  std::vector<std::string_view> expressions;  // the text is cut at the matches of each, one after another
  bool ignore_merges = false;
  bool adds_bos = false;  // where the file does not say
};

/// nullptr: there is none of that name.
const NamedPreTokenizer* named_pre_tokenizer(std::string_view name);
/// The first name of the one with these expressions; "" where there is none.
std::string_view pre_tokenizer_named_by(const std::vector<std::string>& expressions);

// Expressions of tokenizers that other files do not spell out.
extern const std::string_view kGpt2Words, kQwen2Words, kCl100kWords, kO200kWords, kLlama3Words;

}  // namespace llmtool
