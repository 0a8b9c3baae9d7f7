#pragma once
// GPT-2's alphabet: each byte as a printable character (Radford et al. 2019, encoder.py's bytes_to_unicode).

#include <optional>
#include <string>
#include <string_view>

namespace llmtool {

std::string characters_of_bytes(std::string_view bytes);
/// nullopt where a character is not of the alphabet.
std::optional<std::string> bytes_of_characters(std::string_view text);

}  // namespace llmtool
