// Python's % on a string.

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "llmtool/core/error.h"
#include "text/template_eval.h"
#include "text/template_number_text.h"
#include "text/template_unicode.h"

namespace llmtool::jinja {

std::string digits_in_base(uint64_t n, unsigned base, bool capital) {
  const std::string_view all = capital ? "0123456789ABCDEF" : "0123456789abcdef";
  std::string digits(n == 0 ? "0" : "");
  for (; n > 0; n /= base) digits.insert(digits.begin(), all[n % base]);
  return digits;
}

std::string c_format(double value, char type, int64_t precision, bool alternate) {
  if (precision > kMaxPrecision) fail(cat("a precision of more than ", kMaxPrecision, " is not supported"));
  if (std::isnan(value)) return std::isupper(static_cast<unsigned char>(type)) ? "NAN" : "nan";
  if (std::isinf(value)) return std::isupper(static_cast<unsigned char>(type)) ? "INF" : "inf";
  const std::string format = cat("%", alternate ? "#" : "", ".*", type);
  std::string text(static_cast<size_t>(precision) + 400, '\0');
  const int n = std::snprintf(text.data(), text.size(), format.c_str(), static_cast<int>(precision), value);
  text.resize(static_cast<size_t>(std::max(n, 0)));
  return text;
}

namespace {
/// One number as text: its sign, a prefix such as 0x, and its digits.
struct Number {
  std::string sign, prefix, digits;
  std::string filled(Heap& heap, int64_t width, char fill, bool left, bool inside) const {
    const auto size = static_cast<int64_t>(sign.size() + prefix.size() + digits.size());
    Builder out(heap);
    const auto missing = static_cast<uint64_t>(std::max<int64_t>(width - size, 0));
    if (!left && !inside) out.repeat(std::string(1, fill), missing);
    out.add(sign).add(prefix);
    if (inside) out.repeat(std::string(1, fill), missing);
    out.add(digits);
    if (left) out.repeat(" ", missing);
    return out.take();
  }
};

/// One conversion of %: its flags, width, precision and letter.
struct Conversion {
  bool left = false, plus = false, space = false, zero = false, alternate = false;
  int64_t width = 0, precision = -1;
  char type = 's';
};

class Percent {
 public:
  Percent(Heap& heap, const Value& format, const Value& values)
      : heap_(heap), text_(format.text()), markup_(format.markup()), values_(values) {}

  Value run() {
    Builder out(heap_);
    while (at_ < text_.size()) {
      const size_t percent = text_.find('%', at_);
      out.add(std::string_view(text_).substr(at_, std::min(percent, text_.size()) - at_));
      if (percent == std::string::npos) break;
      at_ = percent + 1;
      convert(out);
    }
    const bool leftover =
        values_.is(Kind::kTuple) ? used_ < values_.items().size() : used_ == 0 && !mapped_ && !is_mapping();
    if (leftover) fail("not all arguments converted during string formatting");
    return out.value(markup_);
  }

 private:
  bool is_mapping() const {
    return values_.is(Kind::kDict) || values_.is(Kind::kList) || values_.is(Kind::kRange) ||
           values_.is(Kind::kUndefined);
  }
  char take() {
    if (at_ >= text_.size()) fail("incomplete format");
    return text_[at_++];
  }
  Value argument() {
    if (values_.is(Kind::kTuple)) {
      if (used_ >= values_.items().size()) fail("not enough arguments for format string");
      return values_.items()[used_++];
    }
    if (used_++ > 0) fail("not enough arguments for format string");
    return values_;
  }
  int64_t number(char& c) {
    if (c == '*') {
      const Value n = argument();
      c = take();
      return required_integer(n, "a width or precision of *");
    }
    int64_t n = 0;
    for (; c >= '0' && c <= '9'; c = take()) n = std::min<int64_t>(n * 10 + (c - '0'), INT32_MAX);
    return n;
  }
  std::optional<Value> key(char& c) {
    if (c != '(') return {};
    if (!values_.is(Kind::kDict)) fail("format requires a mapping");
    const size_t start = at_;
    for (int depth = 1; depth > 0;) {
      const char next = take();
      depth += next == '(' ? 1 : next == ')' ? -1 : 0;
    }
    const std::string name = text_.substr(start, at_ - 1 - start);
    const Value* found = values_.dict().find(std::string_view(name));
    if (!found) fail(cat("the format names ", string_repr(name), ", which is not there"));
    mapped_ = true;
    c = take();
    return *found;
  }
  void convert(Builder& out) {
    Conversion how;
    char c = take();
    const std::optional<Value> named = key(c);
    for (;; c = take()) {
      if (c == '-') {
        how.left = true;
      } else if (c == '+') {
        how.plus = true;
      } else if (c == ' ') {
        how.space = true;
      } else if (c == '#') {
        how.alternate = true;
      } else if (c == '0') {
        how.zero = true;
      } else {
        break;
      }
    }
    how.width = number(c);
    if (how.width < 0) how.left = true;
    how.width = how.width < 0 ? (how.width == INT64_MIN ? INT64_MAX : -how.width) : how.width;
    if (c == '.') {
      c = take();
      how.precision = std::max<int64_t>(number(c), 0);
    }
    if (c == 'h' || c == 'l' || c == 'L') c = take();
    how.type = c;
    if (c == '%') {
      out.add("%");
      return;
    }
    value(out, how, named ? *named : argument());
  }
  void value(Builder& out, const Conversion& how, const Value& v) {
    switch (how.type) {
      case 's':
      case 'r':
      case 'a':
        text(out, how, v);
        return;
      case 'c':
        character(out, how, v);
        return;
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o':
        integer(out, how, v);
        return;
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G':
        real(out, how, v);
        return;
      default:
        fail(cat("unsupported format character '", how.type, "'"));
    }
  }
  void text(Builder& out, const Conversion& how, const Value& v) {
    if (how.type == 'a') fail("the format character 'a' is not supported");
    std::string shown = how.type == 'r' ? represented(heap_, v) : printed(heap_, v);
    if (markup_ && !v.markup()) shown = escaped(shown);
    if (how.precision >= 0) shown.resize(byte_offset(shown, static_cast<size_t>(how.precision)));
    out.add(justified(heap_, shown, how.width, " ", how.left ? 0 : 1));
  }
  void character(Builder& out, const Conversion& how, const Value& v) {
    std::string shown;
    if (v.is(Kind::kString)) {
      shown = v.text();
      if (unicode::length(shown) != 1) fail("%c requires int or char");
    } else {
      const int64_t c = required_integer(v, "%c");
      if (c < 0 || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) fail("%c: not a character");
      shown = utf8(static_cast<char32_t>(c));
    }
    out.add(justified(heap_, shown, how.width, " ", how.left ? 0 : 1));
  }
  void finish(Builder& out, const Conversion& how, Number& n, bool negative) {
    n.sign = std::string(negative ? "-" : how.plus ? "+" : how.space ? " " : "");
    const bool inside = how.zero && !how.left;
    out.add(n.filled(heap_, how.width, inside ? '0' : ' ', how.left, inside));
  }
  void integer(Builder& out, const Conversion& how, const Value& v) {
    if (v.is(Kind::kUndefined)) fail_undefined(v);
    const bool decimal = how.type == 'd' || how.type == 'i' || how.type == 'u';
    if (!v.is_integral() && !(decimal && v.is(Kind::kFloat)))
      fail(cat("%", how.type, " format: a number is required, not ", type_name(v)));
    if (v.is(Kind::kFloat) && !(std::abs(v.real()) < 0x1p63)) fail("the number does not fit 64 bits");
    const int64_t n = v.is(Kind::kFloat) ? static_cast<int64_t>(v.real()) : v.integer();
    Number number;
    number.digits = digits_in_base(magnitude(n), how.type == 'o' ? 8 : decimal ? 10 : 16, how.type == 'X');
    if (how.alternate && !decimal) number.prefix = std::string("0") + how.type;
    const auto missing = how.precision - static_cast<int64_t>(number.digits.size());
    if (how.precision > kMaxPrecision)
      fail(cat("a precision of more than ", kMaxPrecision, " is not supported"));
    if (missing > 0) number.digits.insert(0, static_cast<size_t>(missing), '0');
    finish(out, how, number, n < 0);
  }
  void real(Builder& out, const Conversion& how, const Value& v) {
    if (v.is(Kind::kUndefined)) fail_undefined(v);
    if (!v.is_number()) fail(cat("must be real number, not ", type_name(v)));
    Number number;
    const double x = v.real();
    number.digits = c_format(std::abs(x), how.type, how.precision < 0 ? 6 : how.precision, how.alternate);
    finish(out, how, number, std::signbit(x) && !std::isnan(x));
  }

  Heap& heap_;
  const std::string& text_;
  bool markup_;
  const Value& values_;
  size_t at_ = 0, used_ = 0;
  bool mapped_ = false;
};
}  // namespace

Value format_percent(Heap& heap, const Value& format, const Value& values) {
  return Percent(heap, format, values).run();
}

}  // namespace llmtool::jinja
