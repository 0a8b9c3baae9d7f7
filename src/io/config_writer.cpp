// What a config is made of: its values, its schema, its help.

#include <iomanip>

#include "llmtool/core/error.h"
#include "llmtool/io/config.h"
#include "llmtool/io/json.h"

namespace llmtool {

namespace {
using Json = nlohmann::ordered_json;

class Writer : public ConfigVisitor {
 public:
  void section(const char* key, const char*, const std::function<void(ConfigVisitor&)>& keys) override {
    Writer inner;
    keys(inner);
    result[key] = inner.result;
  }
  void integer(const char* key, int64_t& value, Range, const char*) override { result[key] = value; }
  void integer(const char* key, std::optional<int64_t>& value, Range, const char*) override {
    put(key, value);
  }
  void number(const char* key, double& value, Interval, const char*) override { result[key] = value; }
  void number(const char* key, std::optional<double>& value, Interval, const char*) override {
    put(key, value);
  }
  void boolean(const char* key, bool& value, const char*) override { result[key] = value; }
  void string(const char* key, std::string& value, const char*) override { result[key] = value; }
  void choice(const char* key, std::string& value, std::vector<std::string>, const char*) override {
    result[key] = value;
  }
  void strings(const char* key, std::vector<std::string>& value, const char*) override {
    result[key] = value;
  }
  void names(const char* key, NameList& value, const char*) override {
    result[key] = value.expression      ? Json(*value.expression)
                  : value.names.empty() ? Json()
                                        : Json(value.names);
  }
  void boolean_or_string(const char* key, std::string& value, const char*) override {
    result[key] = value == "true" || value == "false" ? Json(value == "true") : Json(value);
  }
  void integers(const char* key, std::vector<int64_t>& value, Range, const char*) override {
    result[key] = value;
  }
  void objects(const char* key, size_t count, const char*, const std::function<void(size_t)>&,
               const std::function<void(ConfigVisitor&, size_t)>& keys) override {
    result[key] = Json::array();
    for (size_t i = 0; i < count; ++i) {
      Writer inner;
      keys(inner, i);
      result[key].push_back(inner.result);
    }
  }
  void raw(const char* key, nlohmann::json& value, const char*) override { result[key] = value; }

  Json result = Json::object();

 private:
  template <class T>
  void put(const char* key, const std::optional<T>& value) {
    result[key] = value ? Json(*value) : Json(nullptr);
  }
};

class SchemaWriter : public ConfigVisitor {
 public:
  void section(const char* key, const char* help, const std::function<void(ConfigVisitor&)>& keys) override {
    SchemaWriter inner;
    keys(inner);
    properties[key] = object(inner.properties, help);
  }
  void integer(const char* key, int64_t& value, Range range, const char* help) override {
    properties[key] = integer_schema("integer", range, value, help);
  }
  void integer(const char* key, std::optional<int64_t>& value, Range range, const char* help) override {
    properties[key] = integer_schema({"integer", "null"}, range, value ? Json(*value) : Json(nullptr), help);
  }
  void number(const char* key, double& value, Interval interval, const char* help) override {
    properties[key] = number_schema("number", interval, value, help);
  }
  void number(const char* key, std::optional<double>& value, Interval interval, const char* help) override {
    properties[key] = number_schema({"number", "null"}, interval, value ? Json(*value) : Json(nullptr), help);
  }
  void boolean(const char* key, bool& value, const char* help) override {
    properties[key] = {{"type", "boolean"}, {"default", value}, {"description", help}};
  }
  void string(const char* key, std::string& value, const char* help) override {
    properties[key] = {{"type", "string"}, {"default", value}, {"description", help}};
  }
  void choice(const char* key, std::string& value, std::vector<std::string> choices,
              const char* help) override {
    properties[key] = {{"enum", choices}, {"default", value}, {"description", help}};
  }
  void strings(const char* key, std::vector<std::string>& value, const char* help) override {
    properties[key] = {
        {"type", "array"}, {"items", {{"type", "string"}}}, {"default", value}, {"description", help}};
  }
  void alternatives(const char* key, std::vector<std::string>& value, const char* help) override {
    strings(key, value, help);
    Json& list = properties[key];
    list["items"]["minLength"] = 1;
    list["uniqueItems"] = true;
    list["not"] = {{"minItems", 1}, {"maxItems", 1}};
  }
  void names(const char* key, NameList& value, const char* help) override {
    Writer writer;
    writer.names("default", value, help);
    properties[key] = {{"type", {"string", "array", "null"}}, {"items", {{"type", "string"}}}};
    properties[key].update(writer.result);
    properties[key]["description"] = help;
  }
  void boolean_or_string(const char* key, std::string& value, const char* help) override {
    Writer writer;
    writer.boolean_or_string("default", value, help);
    properties[key] = {{"type", {"boolean", "string"}}};
    properties[key].update(writer.result);
    properties[key]["description"] = help;
  }
  void integers(const char* key, std::vector<int64_t>& value, Range range, const char* help) override {
    properties[key] = {{"type", "array"},
                       {"items", integer_schema("integer", range, {}, "")},
                       {"default", value},
                       {"description", help}};
  }
  void objects(const char* key, size_t count, const char* help, const std::function<void(size_t)>& resize,
               const std::function<void(ConfigVisitor&, size_t)>& keys) override {
    resize(1);
    SchemaWriter inner;
    keys(inner, 0);
    resize(count);
    properties[key] = {{"type", "array"}, {"items", object(inner.properties, "")}, {"description", help}};
  }
  void raw(const char* key, nlohmann::json&, const char* help) override {
    properties[key] = {{"type", "object"}, {"description", help}};
  }

  static Json object(const Json& properties, const char* help) {
    Json schema = {{"type", "object"}};
    if (*help) schema["description"] = help;
    schema["properties"] = properties;
    schema["additionalProperties"] = false;
    return schema;
  }

  Json properties = Json::object();

 private:
  static Json integer_schema(Json type, Range range, Json value, const char* help) {
    Json schema = {{"type", std::move(type)}, {"minimum", range.min}};
    if (range.max != kMaxInteger) schema["maximum"] = range.max;
    if (*help) {
      schema["default"] = std::move(value);
      schema["description"] = help;
    }
    return schema;
  }
  static Json number_schema(Json type, Interval interval, Json value, const char* help) {
    Json schema = {{"type", std::move(type)}};
    if (std::isfinite(interval.min)) schema["minimum"] = interval.min;
    if (std::isfinite(interval.max)) schema["maximum"] = interval.max;
    schema["default"] = std::move(value);
    schema["description"] = help;
    return schema;
  }
};

class HelpWriter : public ConfigVisitor {
 public:
  explicit HelpWriter(std::string prefix) : prefix_(std::move(prefix)) {}
  void section(const char* key, const char* help, const std::function<void(ConfigVisitor&)>& keys) override {
    out << prefix_ << key << ": " << help << "\n";
    HelpWriter inner(prefix_ + key + ".");
    keys(inner);
    out << inner.out.str();
  }
  void integer(const char* key, int64_t& value, Range, const char* help) override {
    line(key, cat("integer, ", value), help);
  }
  void integer(const char* key, std::optional<int64_t>& value, Range, const char* help) override {
    line(key, value ? cat("integer, ", *value) : "integer or null", help);
  }
  void number(const char* key, double& value, Interval, const char* help) override {
    line(key, cat("number, ", value), help);
  }
  void number(const char* key, std::optional<double>& value, Interval, const char* help) override {
    line(key, value ? cat("number, ", *value) : "number or null", help);
  }
  void boolean(const char* key, bool& value, const char* help) override {
    line(key, value ? "bool, true" : "bool, false", help);
  }
  void string(const char* key, std::string& value, const char* help) override {
    line(key, cat("string, \"", value, "\""), help);
  }
  void choice(const char* key, std::string& value, std::vector<std::string> choices,
              const char* help) override {
    std::string all;
    for (const std::string& c : choices) all += (all.empty() ? "" : "|") + c;
    line(key, value.empty() ? "choice" : value, cat(help, " (", all, ")"));
  }
  void strings(const char* key, std::vector<std::string>&, const char* help) override {
    line(key, "strings", help);
  }
  void names(const char* key, NameList&, const char* help) override { line(key, "string or strings", help); }
  void boolean_or_string(const char* key, std::string& value, const char* help) override {
    line(key, cat("bool or string, ", value), help);
  }
  void integers(const char* key, std::vector<int64_t>&, Range, const char* help) override {
    line(key, "integers", help);
  }
  void objects(const char* key, size_t count, const char* help, const std::function<void(size_t)>& resize,
               const std::function<void(ConfigVisitor&, size_t)>& keys) override {
    line(key, "list", help);
    resize(1);
    HelpWriter inner(prefix_ + key + "[].");
    keys(inner, 0);
    resize(count);
    out << inner.out.str();
  }
  void raw(const char* key, nlohmann::json&, const char* help) override { line(key, "object", help); }

  std::ostringstream out;

 private:
  void line(const std::string& key, const std::string& type, const std::string& help) {
    std::ostringstream made;
    made << "  " << std::left << std::setw(38) << prefix_ + key << " " << std::setw(18) << type << " " << help
         << "\n";
    out << made.str();
    lines_.emplace_back(prefix_ + key, made.str());
  }
  std::string prefix_;

 protected:
  std::vector<std::pair<std::string, std::string>> lines_;  // key and its line
};

/// The help of one section, or the overview; of a config without sections that of the keys that begin so.
class TopicWriter : public HelpWriter {
 public:
  explicit TopicWriter(std::string wanted) : HelpWriter(""), wanted_(std::move(wanted)) {}
  void section(const char* key, const char* help, const std::function<void(ConfigVisitor&)>& keys) override {
    sections_.emplace_back(key);
    overview_ << "  " << std::left << std::setw(14) << key << " " << help << "\n";
    if (key != wanted_) return;
    HelpWriter inner("");
    inner.section(key, help, keys);
    found_ = inner.out.str();
  }
  std::string text() const {
    if (sections_.empty() && lines_.size() > kScreen) return wanted_.empty() ? names_alone() : beginning();
    if (wanted_.empty())
      return out.str() + (sections_.empty() ? "" : "Sections (name one for its keys):\n" + overview_.str());
    if (!found_.empty()) return found_;
    if (sections_.empty()) throw UsageError(cat("\"", wanted_, "\": the config has no sections"));
    const std::string near = nearest(wanted_, sections_.data(), sections_.size());
    throw UsageError(cat("\"", wanted_, "\": no section of the config",
                         near.empty() ? "" : cat(", did you mean ", near, "?")));
  }

 private:
  static constexpr size_t kScreen = 36;  // lines that can be read at once

  std::string names_alone() const {
    std::string text = "Keys (name one, or how some begin, for what they mean):\n", line = " ";
    for (const auto& [key, described] : lines_) {
      if (line.size() + key.size() > 100) text += std::exchange(line, " ") + "\n";
      line += " " + key;
    }
    return text + line + "\n";
  }
  std::string beginning() const {
    std::string text;
    std::vector<std::string> keys;
    for (const auto& [key, described] : lines_) {
      if (key.starts_with(wanted_)) text += described;
      keys.push_back(key);
    }
    if (!text.empty()) return text;
    const std::string near = nearest(wanted_, keys.data(), keys.size());
    throw UsageError(cat("\"", wanted_, "\": no key of the config begins so",
                         near.empty() ? "" : cat(", did you mean ", near, "?")));
  }

  std::string wanted_, found_;
  std::vector<std::string> sections_;
  std::ostringstream overview_;
};
}  // namespace

nlohmann::ordered_json write_config(const ConfigKeys& keys) {
  Writer writer;
  keys(writer);
  return writer.result;
}

nlohmann::ordered_json config_schema(const ConfigKeys& keys, const std::string& title) {
  SchemaWriter writer;
  keys(writer);
  Json schema = {{"$schema", "https://json-schema.org/draft/2020-12/schema"}, {"title", title}};
  schema.update(SchemaWriter::object(writer.properties, ""));
  return schema;
}

std::string config_help(const ConfigKeys& keys, const std::string& section) {
  TopicWriter writer(section);
  keys(writer);
  return writer.text();
}

}  // namespace llmtool
