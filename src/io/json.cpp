#include "llmtool/io/json.h"

#include <cmath>
#include <set>

#include "llmtool/core/error.h"
#include "llmtool/io/files.h"

namespace llmtool {

namespace {
using nlohmann::json;
constexpr size_t kMaxDepth = 64;

/// Looks at the text before the real parse: depth and keys that stand twice, which the library lets pass.
class Guard : public nlohmann::json_sax<json> {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return enter(true); }
  bool start_array(std::size_t) override { return enter(false); }
  bool end_object() override { return leave(true); }
  bool end_array() override { return leave(false); }
  bool key(string_t& name) override {
    if (keys_.back().insert(name).second) return true;
    problem = cat("the key \"", name, "\" stands twice in one object");
    return false;
  }
  bool parse_error(std::size_t, const std::string&, const json::exception& e) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: ..." without the library's own name.
    const std::string what = e.what();
    const size_t from = what.find("] ");
    problem = from == std::string::npos ? what : what.substr(from + 2);
    return false;
  }

  std::string problem;

 private:
  bool enter(bool object) {
    if (object) keys_.emplace_back();
    if (++depth_ <= kMaxDepth) return true;
    problem = cat("more than ", kMaxDepth, " levels of nesting");
    return false;
  }
  bool leave(bool object) {
    if (object) keys_.pop_back();
    --depth_;
    return true;
  }

  size_t depth_ = 0;
  std::vector<std::set<std::string>> keys_;
};
}  // namespace

std::string shown(const json& value) {
  // JSON has no such numbers, and would say null.
  if (value.is_number_float() && !std::isfinite(value.get<double>())) return cat(value.get<double>());
  const std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() <= 60) return text;
  size_t end = 57;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // no half of a character
  return text.substr(0, end) + "...";
}

std::optional<int64_t> exact_integer(const json& value, int64_t min, int64_t max) {
  if (value.is_number_unsigned()) {
    const auto n = value.get<uint64_t>();
    if (max < 0 || n > static_cast<uint64_t>(max)) return {};
    const auto i = static_cast<int64_t>(n);
    return i >= min ? std::optional(i) : std::nullopt;
  }
  if (value.is_number_integer()) {
    const auto n = value.get<int64_t>();
    return n >= min && n <= max ? std::optional(n) : std::nullopt;
  }
  if (value.is_number_float()) {
    const auto n = value.get<double>();
    if (n == std::floor(n) && std::abs(n) <= 0x1p53)
      return exact_integer(json(static_cast<int64_t>(n)), min, max);
  }
  return {};
}

namespace {
void guard(std::string_view text, const std::string& origin) {
  Guard guard;
  if (!json::sax_parse(text.begin(), text.end(), &guard)) throw Error(cat(origin, ": ", guard.problem));
}
}  // namespace

json parse_json(std::string_view text, const std::string& origin) {
  guard(text, origin);
  return json::parse(text.begin(), text.end());
}

nlohmann::ordered_json parse_ordered_json(std::string_view text, const std::string& origin) {
  guard(text, origin);
  return nlohmann::ordered_json::parse(text.begin(), text.end());
}

json read_json(const std::filesystem::path& file, size_t max_bytes) {
  return parse_json(read_file(file, max_bytes), file.string());
}

JsonObject::JsonObject(const nlohmann::json& object, std::string origin)
    : object_(object), origin_(std::move(origin)) {
  if (!object.is_object()) throw Error(cat(origin_, ": expected an object, found ", shown(object)));
}

const nlohmann::json* JsonObject::find(const char* key) const {
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

bool JsonObject::has(const char* key) const { return find(key) != nullptr; }

namespace {
[[noreturn]] void refuse(const JsonObject& object, const char* key, const std::string& expected,
                         const nlohmann::json* found) {
  throw Error(cat(object.origin(), ": ", key, ": expected ", expected, ", found ",
                  found ? shown(*found) : "nothing"));
}
std::string integer_range(int64_t min, int64_t max) { return cat("an integer from ", min, " to ", max); }
}  // namespace

int64_t JsonObject::integer(const char* key, int64_t min, int64_t max) const {
  const nlohmann::json* value = find(key);
  const auto n = value ? exact_integer(*value, min, max) : std::nullopt;
  if (!n) refuse(*this, key, integer_range(min, max), value);
  return *n;
}

int64_t JsonObject::integer(const char* key, int64_t min, int64_t max, int64_t fallback) const {
  return has(key) ? integer(key, min, max) : fallback;
}

double JsonObject::number(const char* key) const {
  const nlohmann::json* value = find(key);
  if (!value || !value->is_number() || !std::isfinite(value->get<double>()))
    refuse(*this, key, "a number", value);
  return value->get<double>();
}

double JsonObject::number(const char* key, double fallback) const {
  return has(key) ? number(key) : fallback;
}

bool JsonObject::boolean(const char* key, bool fallback) const {
  const nlohmann::json* value = find(key);
  if (value && !value->is_boolean()) refuse(*this, key, "true or false", value);
  return value ? value->get<bool>() : fallback;
}

std::string JsonObject::string(const char* key) const {
  const nlohmann::json* value = find(key);
  if (!value || !value->is_string()) refuse(*this, key, "a string", value);
  return value->get<std::string>();
}

std::string JsonObject::string(const char* key, const std::string& fallback) const {
  return has(key) ? string(key) : fallback;
}

std::vector<int64_t> JsonObject::integers(const char* key, int64_t min, int64_t max) const {
  const nlohmann::json* value = find(key);
  if (!value) return {};
  std::vector<int64_t> numbers;
  const auto add = [&](const nlohmann::json& element) {
    const auto n = exact_integer(element, min, max);
    if (!n) refuse(*this, key, integer_range(min, max) + " or a list of them", &element);
    numbers.push_back(*n);
  };
  if (value->is_array()) {
    for (const nlohmann::json& element : *value) add(element);
  } else {
    add(*value);
  }
  return numbers;
}

}  // namespace llmtool
