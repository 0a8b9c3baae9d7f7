// Typed values out of a GGUF file's metadata.

#include <cmath>
#include <cstring>
#include <optional>

#include "io/gguf_types.h"
#include "llmtool/core/error.h"
#include "llmtool/io/gguf.h"

namespace llmtool {

namespace {
template <class T>
T load(const GgufValue& value, uint64_t i) {
  T number;
  std::memcpy(&number, value.bytes.data() + i * sizeof number, sizeof number);
  return number;
}

/// Element i where it is an integer that an int64_t holds.
std::optional<int64_t> integer_at(const GgufValue& value, uint64_t i) {
  switch (value.type) {
    case GgufType::u8:
      return load<uint8_t>(value, i);
    case GgufType::i8:
      return load<int8_t>(value, i);
    case GgufType::u16:
      return load<uint16_t>(value, i);
    case GgufType::i16:
      return load<int16_t>(value, i);
    case GgufType::u32:
      return load<uint32_t>(value, i);
    case GgufType::i32:
      return load<int32_t>(value, i);
    case GgufType::i64:
      return load<int64_t>(value, i);
    case GgufType::u64: {
      const auto n = load<uint64_t>(value, i);
      return n <= static_cast<uint64_t>(INT64_MAX) ? std::optional(static_cast<int64_t>(n)) : std::nullopt;
    }
    default:
      return {};
  }
}

/// Element i where it is a finite number.
std::optional<double> number_at(const GgufValue& value, uint64_t i) {
  double number = 0;
  if (value.type == GgufType::f32) {
    number = static_cast<double>(load<float>(value, i));
  } else if (value.type == GgufType::f64) {
    number = load<double>(value, i);
  } else if (value.type == GgufType::u64) {
    number = static_cast<double>(load<uint64_t>(value, i));
  } else if (const auto n = integer_at(value, i)) {
    number = static_cast<double>(*n);
  } else {
    return {};
  }
  return std::isfinite(number) ? std::optional(number) : std::nullopt;
}

/// The text that starts `at` bytes into the elements; moves `at` behind it.
std::string_view take_text(const GgufValue& value, uint64_t& at) {
  uint64_t length = 0;
  std::memcpy(&length, value.bytes.data() + at, sizeof length);
  const auto* const text = reinterpret_cast<const char*>(value.bytes.data() + at + sizeof length);
  at += sizeof length + length;
  return {text, length};
}

/// For a message: "uint32 5", "string", "a list of 3 float32".
std::string described(const GgufValue& value) {
  const std::string type = gguf_type_name(value.type);
  if (value.list) return cat("a list of ", value.count, " ", type);
  if (const auto n = integer_at(value, 0)) return cat(type, " ", *n);
  if (value.type == GgufType::f32) return cat(type, " ", load<float>(value, 0));
  if (value.type == GgufType::f64) return cat(type, " ", load<double>(value, 0));
  return type;
}
std::string described(const GgufValue& value, uint64_t i) {
  if (!value.list) return described(value);
  GgufValue element = value;
  element.list = false;
  const uint64_t bytes = gguf_type_bytes(value.type);
  if (bytes) element.bytes = value.bytes.subspan(i * bytes, bytes);
  return described(element) + cat(" as element ", i);
}
std::string integer_range(int64_t min, int64_t max) { return cat("an integer from ", min, " to ", max); }
}  // namespace

const GgufValue* GgufMetadata::find(const std::string& key) const {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

void GgufMetadata::refuse(const std::string& key, const std::string& expected,
                          const std::string& found) const {
  const GgufValue* const value = find(key);
  throw Error(cat(origin_, ": ", key, ": ", value ? cat("at offset ", value->offset, ": ") : "", "expected ",
                  expected, ", found ", found));
}

const GgufValue& GgufMetadata::one(const std::string& key, const char* expected) const {
  const GgufValue* const value = find(key);
  if (!value) refuse(key, expected, "nothing");
  if (value->list) refuse(key, expected, described(*value));
  return *value;
}

int64_t GgufMetadata::integer(const std::string& key, int64_t min, int64_t max) const {
  const GgufValue& value = one(key, "an integer");
  const auto n = integer_at(value, 0);
  if (!n || *n < min || *n > max) refuse(key, integer_range(min, max), described(value));
  return *n;
}

int64_t GgufMetadata::integer(const std::string& key, int64_t min, int64_t max, int64_t fallback) const {
  return has(key) ? integer(key, min, max) : fallback;
}

double GgufMetadata::number(const std::string& key) const {
  const GgufValue& value = one(key, "a number");
  const auto n = number_at(value, 0);
  if (!n) refuse(key, "a finite number", described(value));
  return *n;
}

double GgufMetadata::number(const std::string& key, double fallback) const {
  return has(key) ? number(key) : fallback;
}

bool GgufMetadata::boolean(const std::string& key, bool fallback) const {
  if (!has(key)) return fallback;
  const GgufValue& value = one(key, "true or false");
  if (value.type != GgufType::boolean) refuse(key, "true or false", described(value));
  return load<uint8_t>(value, 0) != 0;
}

std::string GgufMetadata::string(const std::string& key) const {
  const GgufValue& value = one(key, "a string");
  if (value.type != GgufType::string) refuse(key, "a string", described(value));
  uint64_t at = 0;
  return std::string(take_text(value, at));
}

std::string GgufMetadata::string(const std::string& key, const std::string& fallback) const {
  return has(key) ? string(key) : fallback;
}

std::vector<int64_t> GgufMetadata::integers(const std::string& key, int64_t min, int64_t max) const {
  const GgufValue* const value = find(key);
  std::vector<int64_t> numbers;
  for (uint64_t i = 0; value && i < value->count; ++i) {
    const auto n = integer_at(*value, i);
    if (!n || *n < min || *n > max)
      refuse(key, integer_range(min, max) + " or a list of them", described(*value, i));
    numbers.push_back(*n);
  }
  return numbers;
}

std::vector<float> GgufMetadata::numbers(const std::string& key) const {
  const GgufValue* const value = find(key);
  std::vector<float> numbers;
  for (uint64_t i = 0; value && i < value->count; ++i) {
    const auto n = number_at(*value, i);
    if (!n || !std::isfinite(static_cast<float>(*n)))
      refuse(key, "a finite number or a list of them", described(*value, i));
    numbers.push_back(static_cast<float>(*n));
  }
  return numbers;
}

std::vector<bool> GgufMetadata::booleans(const std::string& key) const {
  const GgufValue* const value = find(key);
  std::vector<bool> flags;
  if (value && value->type != GgufType::boolean)
    refuse(key, "true or false or a list of them", described(*value));
  for (uint64_t i = 0; value && i < value->count; ++i) flags.push_back(load<uint8_t>(*value, i) != 0);
  return flags;
}

std::vector<std::string> GgufMetadata::strings(const std::string& key) const {
  const GgufValue* const value = find(key);
  std::vector<std::string> texts;
  if (value && value->type != GgufType::string) refuse(key, "a string or a list of them", described(*value));
  uint64_t at = 0;
  for (uint64_t i = 0; value && i < value->count; ++i) texts.emplace_back(take_text(*value, at));
  return texts;
}

}  // namespace llmtool
