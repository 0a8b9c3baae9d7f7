#pragma once
// JSON from files that may be hostile.

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace llmtool {

/// Parses UTF-8 JSON. `origin` (a file name, "row 12 of x.jsonl") opens every message. Throws Error on bad
/// syntax (with line and column), more than 64 levels, or a key that stands twice in one object.
nlohmann::json parse_json(std::string_view text, const std::string& origin);
/// The same with the keys in the order of the text, which chat templates print.
nlohmann::ordered_json parse_ordered_json(std::string_view text, const std::string& origin);
nlohmann::json read_json(const std::filesystem::path& file, size_t max_bytes = size_t{256} << 20);

/// The value as text for a message: valid UTF-8, at most 60 bytes.
std::string shown(const nlohmann::json& value);
/// The value where it is an integer (3, 3.0) of that range, exactly; nothing is wrapped or rounded.
std::optional<int64_t> exact_integer(const nlohmann::json& value, int64_t min, int64_t max);

/// Checked getters: a JSON object with the name of the place it came from. Each throws Error naming origin,
/// key, what was expected and what was found. The second form of each gives `fallback` where the key is
/// absent or null.
class JsonObject {
 public:
  JsonObject(const nlohmann::json& object, std::string origin);  // throws Error unless it is an object
  bool has(const char* key) const;                               // present and not null
  int64_t integer(const char* key, int64_t min, int64_t max) const;
  int64_t integer(const char* key, int64_t min, int64_t max, int64_t fallback) const;
  double number(const char* key) const;  // finite
  double number(const char* key, double fallback) const;
  bool boolean(const char* key, bool fallback) const;
  std::string string(const char* key) const;
  std::string string(const char* key, const std::string& fallback) const;
  /// One integer or a list of them; empty where absent or null.
  std::vector<int64_t> integers(const char* key, int64_t min, int64_t max) const;
  const nlohmann::json& json() const { return object_; }
  const std::string& origin() const { return origin_; }

 private:
  const nlohmann::json* find(const char* key) const;
  const nlohmann::json& object_;
  std::string origin_;
};

}  // namespace llmtool
