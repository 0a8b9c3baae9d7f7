// Reading a config: every key known, of its type, in its range.

#include <cmath>

#include "llmtool/core/error.h"
#include "llmtool/io/config.h"
#include "llmtool/io/json.h"

namespace llmtool {

namespace {
using Json = nlohmann::json;

class Reader : public ConfigVisitor {
 public:
  Reader(const Json& object, std::string path) : object_(object), path_(std::move(path)) {
    if (!object.is_object()) throw UsageError(cat(place(""), "expected an object, found ", shown(object)));
  }

  void section(const char* key, const char*, const std::function<void(ConfigVisitor&)>& keys) override {
    static const Json kEmpty = Json::object();
    const Json* value = take(key);
    Reader reader(value ? *value : kEmpty, full(key));
    keys(reader);
    reader.finish();
  }
  void integer(const char* key, int64_t& value, Range range, const char*) override {
    if (const Json* found = take(key)) value = read_integer(key, *found, range);
  }
  void integer(const char* key, std::optional<int64_t>& value, Range range, const char*) override {
    if (const Json* found = take(key))
      value = found->is_null() ? std::nullopt : std::optional(read_integer(key, *found, range));
  }
  void number(const char* key, double& value, Interval interval, const char*) override {
    if (const Json* found = take(key)) value = read_number(key, *found, interval);
  }
  void number(const char* key, std::optional<double>& value, Interval interval, const char*) override {
    if (const Json* found = take(key))
      value = found->is_null() ? std::nullopt : std::optional(read_number(key, *found, interval));
  }
  void boolean(const char* key, bool& value, const char*) override {
    const Json* found = take(key);
    if (!found) return;
    if (!found->is_boolean()) refuse(key, "true or false", *found);
    value = found->get<bool>();
  }
  void string(const char* key, std::string& value, const char*) override {
    if (const Json* found = take(key)) value = read_string(key, *found);
  }
  void choice(const char* key, std::string& value, std::vector<std::string> choices, const char*) override {
    const Json* found = take(key);
    if (!found) return;
    const std::string text = read_string(key, *found);
    if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
      std::string list;
      for (const std::string& c : choices) list += (list.empty() ? "" : ", ") + c;
      const std::string near = nearest(text, choices.data(), choices.size());
      throw UsageError(cat(place(key), "expected one of ", list, "; found ", shown(*found),
                           near.empty() ? "" : cat(", did you mean ", near, "?")));
    }
    value = text;
  }
  void strings(const char* key, std::vector<std::string>& value, const char*) override {
    const Json* found = take(key);
    if (!found) return;
    if (!found->is_array()) refuse(key, "a list of strings", *found);
    value.clear();
    for (const Json& element : *found) value.push_back(read_string(key, element));
  }
  void names(const char* key, NameList& value, const char*) override {
    const Json* found = take(key);
    if (!found) return;
    value = {};
    if (found->is_null()) return;
    if (found->is_string()) {
      value.expression = found->get<std::string>();
    } else if (found->is_array()) {
      for (const Json& element : *found) value.names.push_back(read_string(key, element));
    } else {
      refuse(key, "a string or a list of strings", *found);
    }
  }
  void boolean_or_string(const char* key, std::string& value, const char*) override {
    const Json* found = take(key);
    if (!found) return;
    if (found->is_boolean()) {
      value = found->get<bool>() ? "true" : "false";
    } else {
      value = read_string(key, *found);
    }
  }
  void integers(const char* key, std::vector<int64_t>& value, Range range, const char*) override {
    const Json* found = take(key);
    if (!found) return;
    if (!found->is_array()) refuse(key, "a list of integers", *found);
    value.clear();
    for (const Json& element : *found) value.push_back(read_integer(key, element, range));
  }
  void objects(const char* key, size_t, const char*, const std::function<void(size_t n)>& resize,
               const std::function<void(ConfigVisitor&, size_t i)>& keys) override {
    const Json* found = take(key);
    if (!found) return;
    if (!found->is_array()) refuse(key, "a list of objects", *found);
    resize(found->size());
    for (size_t i = 0; i < found->size(); ++i) {
      Reader reader((*found)[i], cat(full(key), "[", i, "]"));
      keys(reader, i);
      reader.finish();
    }
  }
  void raw(const char* key, Json& value, const char*) override {
    const Json* found = take(key);
    if (!found) return;
    if (!found->is_object()) refuse(key, "an object", *found);
    value = *found;
  }

  /// Refuses the first key that nobody asked for.
  void finish() const {
    for (const auto& [key, value] : object_.items()) {
      if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
      const std::string near = nearest(key, known_.data(), known_.size());
      throw UsageError(
          cat(full(key.c_str()), ": unknown key", near.empty() ? "" : cat(", did you mean ", near, "?")));
    }
  }

 private:
  std::string full(const char* key) const { return path_.empty() || !*key ? path_ + key : path_ + "." + key; }
  std::string place(const char* key) const {
    const std::string name = full(key);
    return name.empty() ? "config: " : name + ": ";
  }
  [[noreturn]] void refuse(const char* key, const std::string& expected, const Json& found) const {
    throw UsageError(cat(place(key), "expected ", expected, ", found ", shown(found)));
  }
  const Json* take(const char* key) {
    known_.emplace_back(key);
    const auto it = object_.find(key);
    return it == object_.end() ? nullptr : &*it;
  }
  int64_t read_integer(const char* key, const Json& found, Range range) const {
    const std::string expected = range.max == kMaxInteger
                                     ? cat("an integer >= ", range.min)
                                     : cat("an integer from ", range.min, " to ", range.max);
    const std::optional<int64_t> n = exact_integer(found, range.min, range.max);
    if (!n) refuse(key, expected, found);
    return *n;
  }
  double read_number(const char* key, const Json& found, Interval interval) const {
    std::string expected = "a number";
    const bool low = std::isfinite(interval.min), high = std::isfinite(interval.max);
    if (low && high) expected = cat("a number from ", interval.min, " to ", interval.max);
    if (low && !high) expected = cat("a number >= ", interval.min);
    if (!found.is_number()) refuse(key, expected, found);
    const double value = found.get<double>();
    if (!std::isfinite(value) || value < interval.min || value > interval.max) refuse(key, expected, found);
    return value;
  }
  std::string read_string(const char* key, const Json& found) const {
    if (!found.is_string()) refuse(key, "a string", found);
    return found.get<std::string>();
  }

  const Json& object_;
  std::string path_;
  std::vector<std::string> known_;
};
}  // namespace

void read_config(const Json& json, const ConfigKeys& keys) {
  Reader reader(json, "");
  keys(reader);
  reader.finish();
}

namespace {
bool is_utf8(const std::string& text) {
  try {
    static_cast<void>(Json(text).dump());
    return true;
  } catch (const Json::type_error&) {  // how the library says it
    return false;
  }
}
}  // namespace

void apply_setting(Json& json, const std::string& setting) {
  const size_t equals = setting.find('=');
  if (equals == std::string::npos || equals == 0) {
    throw UsageError(cat("--set: expected key=value, found \"", setting, "\""));
  }
  const std::string path = setting.substr(0, equals), text = setting.substr(equals + 1);
  // Else it would be refused only where the config is written, far from here.
  if (!is_utf8(setting)) throw UsageError(cat("--set ", shown(setting), ": expected UTF-8"));
  Json value;
  try {
    value = parse_json(text, "--set " + path);
  } catch (const Error&) {
    value = text;  // what is no JSON is meant as a string
  }
  Json* at = &json;
  size_t from = 0;
  while (true) {
    const size_t dot = path.find('.', from);
    const std::string key = path.substr(from, dot == std::string::npos ? dot : dot - from);
    if (key.empty()) throw UsageError(cat("--set: \"", path, "\" has an empty key"));
    if (at->is_null()) *at = Json::object();
    if (!at->is_object())
      throw UsageError(cat("--set ", path, ": ", path.substr(0, from ? from - 1 : 0), " is no section"));
    at = &(*at)[key];
    if (dot == std::string::npos) break;
    from = dot + 1;
  }
  *at = std::move(value);
}

}  // namespace llmtool
