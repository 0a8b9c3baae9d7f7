#pragma once
// Decoders of tokenizer.json: what text a token gives.

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace llmtool {

class Detokenizer {
 public:
  /// The `decoder` of a tokenizer.json. Throws Error, opening with `origin`, on kinds that are not supported.
  Detokenizer(const nlohmann::json& json, const std::string& origin);

  /// What `token` gives; bytes that are no text on their own where holds_bytes().
  std::string surface(std::string token, bool first) const;
  /// Whether every token is bytes, of which several may make a character.
  bool byte_level() const { return byte_level_; }
  /// The byte that a token "<0xE2>" stands for.
  std::optional<char> byte_of(std::string_view token) const;

 private:
  using Step = std::function<void(std::string& token, bool first)>;
  void read(const nlohmann::json& json, const std::string& origin);
  void read_strip(const nlohmann::json& json, const std::string& origin);

  std::vector<Step> steps_;
  bool byte_level_ = false, byte_fallback_ = false;
  bool fused_ = false;    // what follows sees all of the text at once
  bool apart_ = false;    // tokens stand a space apart
  std::string stripped_;  // a character that is left out once at the text's start
};

}  // namespace llmtool
