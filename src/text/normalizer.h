#pragma once
// Normalizers of tokenizer.json: what is done to a text before it is cut into words.

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

namespace llmtool {

struct NormalizedText {
  std::string text;
  bool continues = false;  // goes on from a part that was given before: nothing is put in front of it
  bool begins = true;      // false: its beginning was taken away
};
using Normalizer = std::function<void(NormalizedText&)>;

/// The `normalizer` of a tokenizer.json; an empty function for null. `bytes` is set where the text becomes
/// GPT-2's alphabet of bytes. Throws Error, opening with `origin`, on kinds that are not supported.
Normalizer read_normalizer(const nlohmann::json& json, const std::string& origin, bool& bytes);

}  // namespace llmtool
