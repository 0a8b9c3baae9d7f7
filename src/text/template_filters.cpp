// The tables of filters and tests, and the filters of numbers and of any value.

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <unordered_map>

#include "llmtool/core/error.h"
#include "text/template_eval.h"
#include "text/template_unicode.h"

namespace llmtool::jinja {

namespace {
/// Python's number syntax: spaces around, decimal digits of any script, one underscore between digits.
/// Nothing where the text cannot be one.
std::optional<std::string> plain_number(std::string_view text, bool letters) {
  text = strip(text, true, true);
  std::string out;
  char32_t before = 0;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = unicode::next(text, at);
    const auto wordlike = [&](char32_t x) {
      return letters && x < 0x80 && std::isalpha(static_cast<unsigned char>(x)) != 0;
    };
    if (c == '_') {
      size_t ahead = at;
      if (!(wordlike(before) || decimal_value(before) >= 0) || at >= text.size()) return {};
      const char32_t after = unicode::next(text, ahead);
      if (!wordlike(after) && decimal_value(after) < 0) return {};
    } else if (c < 0x80) {
      out += static_cast<char>(c);
    } else if (const int digit = decimal_value(c); digit >= 0) {
      out += static_cast<char>('0' + digit);
    } else {
      return {};
    }
    before = c;
  }
  return out;
}

int digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const int lower = std::tolower(static_cast<unsigned char>(c));
  return lower >= 'a' && lower <= 'z' ? lower - 'a' + 10 : 99;
}
}  // namespace

std::optional<int64_t> parse_integer(std::string_view text, int64_t base) {
  if (base != 0 && (base < 2 || base > 36)) fail("int() base must be >= 2 and <= 36, or 0");
  const auto plain = plain_number(text, true);
  if (!plain) return {};
  std::string_view digits = *plain;
  const bool negative = digits.starts_with('-');
  if (negative || digits.starts_with('+')) digits.remove_prefix(1);
  const char letter = digits.size() > 2 && digits[0] == '0' ? static_cast<char>(digits[1] | 0x20) : ' ';
  const int64_t named = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
  if (named && (base == 0 || base == named)) {
    digits.remove_prefix(2);
    base = named;
  } else if (base == 0) {
    if (digits.starts_with('0') && digits.find_first_not_of('0') != digits.npos) return {};
    base = 10;
  }
  if (digits.empty()) return {};
  int64_t n = 0;
  bool large = false;
  for (const char c : digits) {
    const int digit = digit_of(c);
    if (digit >= base) return {};
    large = large || __builtin_mul_overflow(n, base, &n) || __builtin_sub_overflow(n, digit, &n);
  }
  if (large || (!negative && n == INT64_MIN)) fail("the integer does not fit 64 bits");
  return negative ? n : -n;
}

std::optional<double> parse_float(std::string_view text) {
  const auto plain = plain_number(text, false);
  if (!plain || plain->empty()) return {};
  std::string_view body = *plain;
  if (body[0] == '+' || body[0] == '-') body.remove_prefix(1);
  const std::string word = mapped(body, Case::kLower);
  const bool named = word == "inf" || word == "infinity" || word == "nan";
  if (!named) {
    size_t digits = 0, at = 0;
    const auto skip = [&] {
      const size_t from = at;
      while (at < body.size() && body[at] >= '0' && body[at] <= '9') ++at;
      return at - from;
    };
    digits = skip();
    if (at < body.size() && body[at] == '.') ++at, digits += skip();
    if (digits == 0) return {};
    if (at < body.size() && (body[at] | 0x20) == 'e') {
      ++at;
      if (at < body.size() && (body[at] == '+' || body[at] == '-')) ++at;
      if (skip() == 0) return {};
    }
    if (at != body.size()) return {};
  }
  return std::strtod(plain->c_str(), nullptr);
}

Value round_value(const Value& value, int64_t digits) {
  if (value.is_integral()) {
    const int64_t n = value.integer();
    if (digits >= 0) return Value(n);
    if (digits < -18) return Value(int64_t{0});
    int64_t unit = 1;
    for (int64_t i = 0; i < -digits; ++i) unit *= 10;
    const int64_t rest = n % unit < 0 ? n % unit + unit : n % unit;
    int64_t down = 0;
    if (__builtin_sub_overflow(n, rest, &down)) fail("the integer does not fit 64 bits");
    const bool up = rest > unit / 2 || (rest == unit / 2 && (down / unit) % 2 != 0);
    if (up && __builtin_add_overflow(down, unit, &down)) fail("the integer does not fit 64 bits");
    return Value(down);
  }
  const double x = value.real();
  if (!std::isfinite(x) || digits > 323) return Value(x);
  if (digits < -308) return Value(std::copysign(0.0, x));
  if (digits >= 0) {
    char buffer[700];
    std::snprintf(buffer, sizeof buffer, "%.*f", static_cast<int>(digits), x);
    return Value(std::strtod(buffer, nullptr));
  }
  const double unit = std::pow(10.0, static_cast<double>(-digits));
  const double whole = std::nearbyint(x / unit);
  return Value(whole * unit);
}

namespace {
Value abs_filter(Heap&, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "abs", {});
  if (value.is(Kind::kFloat)) return Value(std::abs(value.real()));
  if (value.is(Kind::kUndefined)) fail_undefined(value);
  if (!value.is_integral()) fail(cat("bad operand type for abs(): '", type_name(value), "'"));
  return value.integer() < 0 ? negate(value) : Value(value.integer());
}

Value truncated(double x) {
  if (!(std::abs(x) < 0x1p63)) fail("the number does not fit 64 bits");
  return Value(static_cast<int64_t>(x));
}

Value int_filter(Heap&, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "int", {"default", "base"});
  const Value fallback = bound.has(0) ? bound[0] : Value(int64_t{0});
  if (value.is(Kind::kUndefined)) fail_undefined(value);
  if (value.is_integral()) return Value(value.integer());
  if (value.is(Kind::kFloat)) return std::isnan(value.real()) ? fallback : truncated(value.real());
  if (!value.is(Kind::kString)) return fallback;
  const int64_t base = bound.integer(1, 10);
  if (base == 0 || (base >= 2 && base <= 36)) {
    if (const auto n = parse_integer(value.text(), base)) return Value(*n);
  }
  const auto real = parse_float(value.text());
  return real && std::isfinite(*real) ? truncated(*real) : fallback;
}

Value float_filter(Heap&, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "float", {"default"});
  if (value.is(Kind::kUndefined)) fail_undefined(value);
  if (value.is_number()) return Value(value.real());
  const auto real = value.is(Kind::kString) ? parse_float(value.text()) : std::nullopt;
  return real ? Value(*real) : bound.has(0) ? bound[0] : Value(0.0);
}

Value round_filter(Heap&, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "round", {"precision", "method"});
  const std::string method = bound.has(1) ? bound.text(1) : "common";
  if (method != "common" && method != "ceil" && method != "floor")
    fail("method must be common, ceil or floor");
  if (value.is(Kind::kUndefined)) fail_undefined(value);
  if (!value.is_number()) fail(cat("type ", type_name(value), " doesn't define __round__ method"));
  if (method == "common" && bound.none(0) && bound.has(0)) {
    const Value whole = round_value(value, 0);
    return whole.is(Kind::kFloat) ? truncated(whole.real()) : whole;
  }
  const int64_t precision = bound.integer(0, 0);
  if (method == "common") return round_value(value, precision);
  if (precision > 18 && value.is_integral()) fail("the integer does not fit 64 bits");
  const double unit = std::pow(10.0, static_cast<double>(precision));
  const double scaled = value.real() * unit;
  return Value(truncated(method == "ceil" ? std::ceil(scaled) : std::floor(scaled)).real() / unit);
}

Value default_filter(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "default", {"default_value", "boolean"});
  const bool absent = value.is(Kind::kUndefined) || (bound.truth(heap, 1) && !truth(heap, value));
  return !absent ? value : bound.has(0) ? bound[0] : heap.string("");
}

Value attr_filter(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "attr", {"name"}, 1);
  const std::string& name = bound.text(0);
  if (value.is(Kind::kUndefined)) fail_undefined(value);
  if (auto native = native_attribute(heap, value, name)) return *native;
  return heap.undefined(cat("'", type_name(value), " object' has no attribute ", string_repr(name)));
}

Value filesizeformat_filter(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "filesizeformat", {"binary"});
  const bool binary = bound.truth(heap, 0);
  if (value.is(Kind::kUndefined)) fail_undefined(value);
  const auto size = value.is_number()         ? std::optional(value.real())
                    : value.is(Kind::kString) ? parse_float(value.text())
                                              : std::nullopt;
  if (!size || !std::isfinite(*size)) fail("filesizeformat: not a number");
  const double base = binary ? 1024 : 1000;
  if (*size == 1) return heap.string("1 Byte");
  if (*size < base) return heap.string(cat(truncated(*size).integer(), " Bytes"));
  double unit = base * base;
  size_t i = 0;
  for (; i < 7 && *size >= unit; ++i) unit *= base;
  const std::string prefix(1, (binary ? "KMGTPEZY" : "kMGTPEZY")[i]);
  return heap.string(format_value(heap, Value(base * *size / unit), ".1f") + " " + prefix +
                     (binary ? "iB" : "B"));
}

const std::unordered_map<std::string, FilterFunction> kNumberFilters = {
    {"abs", abs_filter},     {"int", int_filter},
    {"float", float_filter}, {"round", round_filter},
    {"d", default_filter},   {"default", default_filter},
    {"attr", attr_filter},   {"filesizeformat", filesizeformat_filter},
};
}  // namespace

const FilterFunction* find_number_filter(const std::string& name) {
  const auto found = kNumberFilters.find(name);
  return found == kNumberFilters.end() ? nullptr : &found->second;
}

namespace {
const FilterFunction* find_filter(const std::string& name) {
  if (const auto* filter = find_text_filter(name)) return filter;
  if (const auto* filter = find_sequence_filter(name)) return filter;
  return find_number_filter(name);
}
}  // namespace

bool has_filter(const std::string& name) { return find_filter(name) != nullptr; }

Value call_filter(Heap& heap, const std::string& name, const Value& value, Arguments& arguments) {
  const Deeper deeper(heap);
  heap.step();
  const FilterFunction* filter = find_filter(name);
  if (!filter) fail(cat("the filter '", name, "' is not known"));
  return (*filter)(heap, value, arguments);
}

}  // namespace llmtool::jinja
