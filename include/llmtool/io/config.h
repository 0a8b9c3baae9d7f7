#pragma once
// One description of a config gives its reading, its defaults, its help and its JSON Schema.

#include <cstdint>
#include <functional>
#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

namespace llmtool {

/// Names given one by one, or one expression for them (PEFT's target_modules).
struct NameList {
  std::optional<std::string> expression = {};
  std::vector<std::string> names = {};

  bool empty() const { return !expression && names.empty(); }
};

/// Visits the keys of a config struct in order. A struct describes itself once:
///   void TrainingConfig::visit(ConfigVisitor& v) { v.integer("max_steps", max_steps, {1}, "optimizer
///   steps"); ... }
class ConfigVisitor {
 public:
  static constexpr int64_t kMaxInteger = int64_t{1} << 53;
  struct Range {  // inclusive
    int64_t min = 0, max = kMaxInteger;
  };
  struct Interval {  // inclusive
    double min = -std::numeric_limits<double>::infinity(), max = std::numeric_limits<double>::infinity();
  };
  virtual ~ConfigVisitor() = default;
  virtual void section(const char* key, const char* help,
                       const std::function<void(ConfigVisitor&)>& keys) = 0;
  virtual void integer(const char* key, int64_t& value, Range range, const char* help) = 0;
  virtual void integer(const char* key, std::optional<int64_t>& value, Range range,
                       const char* help) = 0;  // or null
  virtual void number(const char* key, double& value, Interval interval, const char* help) = 0;
  virtual void number(const char* key, std::optional<double>& value, Interval interval, const char* help) = 0;
  virtual void boolean(const char* key, bool& value, const char* help) = 0;
  virtual void string(const char* key, std::string& value, const char* help) = 0;
  virtual void choice(const char* key, std::string& value, std::vector<std::string> choices,
                      const char* help) = 0;
  virtual void strings(const char* key, std::vector<std::string>& value, const char* help) = 0;
  /// The same where they are to choose from: none, or several that differ and are not empty.
  virtual void alternatives(const char* key, std::vector<std::string>& value, const char* help) {
    strings(key, value, help);
  }
  virtual void names(const char* key, NameList& value, const char* help) = 0;  // a string, a list or null
  /// true or false, kept as "true" and "false", or a string.
  virtual void boolean_or_string(const char* key, std::string& value, const char* help) = 0;
  virtual void integers(const char* key, std::vector<int64_t>& value, Range range, const char* help) = 0;
  /// A list of objects: resize(n) makes room when reading, keys(v, i) describes element i (element 0 for the
  /// schema, for which resize(1) is called).
  virtual void objects(const char* key, size_t count, const char* help,
                       const std::function<void(size_t n)>& resize,
                       const std::function<void(ConfigVisitor&, size_t i)>& keys) = 0;
  /// Any JSON object, kept as it is (for keys that another format defines).
  virtual void raw(const char* key, nlohmann::json& value, const char* help) = 0;
};

using ConfigKeys = std::function<void(ConfigVisitor&)>;

/// Reads `json` into what `keys` describes; keys that are absent keep their value. Throws UsageError that
/// names the path of the offending key ("training.max_step: unknown key, did you mean max_steps?";
/// "training.max_steps: expected an integer >= 1, found \"ten\"").
void read_config(const nlohmann::json& json, const ConfigKeys& keys);
/// The values as a JSON object, in the order of the keys.
nlohmann::ordered_json write_config(const ConfigKeys& keys);
/// JSON Schema (draft 2020-12) with types, ranges, defaults and descriptions; unknown keys refused.
nlohmann::ordered_json config_schema(const ConfigKeys& keys, const std::string& title);
/// The keys of `section` as help lines: "  training.max_steps  integer, 1000   optimizer steps"; without one,
/// the keys outside of sections and the sections by name. Of a config of many keys without sections the keys'
/// names, or help on those that begin with `section`. Throws UsageError where nothing has that name.
std::string config_help(const ConfigKeys& keys, const std::string& section = "");

/// Applies "a.b=value" to `json` (the value is JSON, or else a string). Throws UsageError on a malformed
/// setting.
void apply_setting(nlohmann::json& json, const std::string& setting);

}  // namespace llmtool
