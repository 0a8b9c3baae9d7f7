#pragma once
// Normalizers of tokenizer.json: what is done to a text before it is cut into words.

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

namespace llmtool {

/// Changes a text. `continues`: the text goes on from a part that was given before, so that nothing is put in
/// front of it.
using Normalizer = std::function<void(std::string& text, bool continues)>;

/// The `normalizer` of a tokenizer.json; an empty function for null. `bytes` is set where the text becomes
/// GPT-2's alphabet of bytes. Throws Error, opening with `origin`, on kinds that are not supported.
Normalizer read_normalizer(const nlohmann::json& json, const std::string& origin, bool& bytes);

}  // namespace llmtool
