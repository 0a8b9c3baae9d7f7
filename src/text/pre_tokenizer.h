#pragma once
// Pre-tokenizers of tokenizer.json: what cuts a text into words.

#include <deque>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace llmtool {

/// A text on its way to become words.
struct Words {
  struct Word {
    std::string_view text;
    bool first;  // begins where the whole text begins
  };
  std::vector<Word> list;
  std::deque<std::string> changed;  // texts that are no longer parts of the original
  bool continues = false;           // nothing is put in front of the first word
  bool begins = true;               // false: the normalizer took the whole text's beginning away
};
using PreTokenizer = std::function<void(Words&)>;

/// How bytes and GPT-2's characters for them take part.
struct ByteLevel {
  bool used = false;    // words are bytes in the end
  bool mapped = false;  // they are spelled in GPT-2's alphabet until then
};

/// The `pre_tokenizer` of a tokenizer.json; an empty function for null. Throws Error, opening with `origin`,
/// on kinds that are not supported.
PreTokenizer read_pre_tokenizer(const nlohmann::json& json, const std::string& origin, ByteLevel& bytes);

}  // namespace llmtool
