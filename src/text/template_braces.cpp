// Python's str.format and its format specifications.

#include <algorithm>
#include <cmath>

#include "llmtool/core/error.h"
#include "text/template_eval.h"
#include "text/template_number_text.h"
#include "text/template_unicode.h"

namespace llmtool::jinja {

namespace {
/// [[fill]align][sign][#][0][width][grouping][.precision][type]
struct Spec {
  std::string fill = " ";
  char align = 0, sign = '-', grouping = 0, type = 0;
  bool alternate = false, given_fill = false;
  int64_t width = 0, precision = -1;
};

class SpecParser {
 public:
  explicit SpecParser(const std::string& text) : text_(text) {}

  Spec parse() {
    Spec spec;
    alignment(spec);
    if (one_of("+- ")) spec.sign = text_[at_++];
    if (one_of("#")) spec.alternate = ++at_ > 0;
    if (one_of("0")) {
      ++at_;
      if (!spec.given_fill) spec.fill.assign(1, '0');
      if (!spec.align) spec.align = '=';
    }
    spec.width = std::max<int64_t>(number(), 0);
    if (one_of(",_")) spec.grouping = text_[at_++];
    if (one_of(".")) {
      ++at_;
      spec.precision = number();
      if (spec.precision < 0) fail("Format specifier missing precision");
    }
    if (at_ < text_.size()) spec.type = text_[at_++];
    if (at_ < text_.size()) fail(cat("Invalid format specifier ", string_repr(text_)));
    return spec;
  }

 private:
  bool one_of(std::string_view set) const { return at_ < text_.size() && set.find(text_[at_]) != set.npos; }
  void alignment(Spec& spec) {
    size_t after = 0;
    if (text_.empty()) return;
    unicode::next(text_, after);
    if (after < text_.size() && std::string_view("<>=^").find(text_[after]) != std::string_view::npos) {
      spec.fill = text_.substr(0, after);
      spec.given_fill = true;
      spec.align = text_[after];
      at_ = after + 1;
    } else if (one_of("<>=^")) {
      spec.align = text_[at_++];
    }
  }
  int64_t number() {
    int64_t n = -1;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_)
      n = std::min<int64_t>(std::max<int64_t>(n, 0) * 10 + (text_[at_] - '0'), INT32_MAX);
    return n;
  }
  const std::string& text_;
  size_t at_ = 0;
};

std::string pad(Heap& heap, const Spec& spec, const std::string& text, char natural) {
  const char align = spec.align ? spec.align : natural;
  return justified(heap, text, spec.width, spec.fill, align == '<' ? 0 : align == '>' ? 1 : 2);
}

/// As CPython centers here: the odd one behind.
std::string center(Heap& heap, const Spec& spec, const std::string& text) {
  const auto missing = std::max<int64_t>(spec.width - static_cast<int64_t>(unicode::length(text)), 0);
  Builder out(heap);
  out.repeat(spec.fill, static_cast<uint64_t>(missing) / 2).add(text);
  return out.repeat(spec.fill, static_cast<uint64_t>(missing - missing / 2)).take();
}

std::string format_text(Heap& heap, const std::string& text, const Spec& spec) {
  if (spec.type && spec.type != 's')
    fail(cat("Unknown format code '", spec.type, "' for object of type 'str'"));
  if (spec.sign != '-' || spec.alternate || spec.grouping) fail("the format is not allowed for a string");
  if (spec.align == '=' && spec.given_fill) fail("'=' alignment not allowed in string format specifier");
  std::string shown = text;
  if (spec.precision >= 0) shown.resize(byte_offset(shown, static_cast<size_t>(spec.precision)));
  if (spec.align == '^') return center(heap, spec, shown);
  Spec left = spec;
  if (left.align == '=') left.align = '<';
  return pad(heap, left, shown, '<');
}

std::string grouped(const std::string& digits, char separator, size_t group) {
  if (!separator) return digits;
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % group == 0) out += separator;
    out += digits[i];
  }
  return out;
}

/// sign, digits with the separators among them, and what follows (a fraction).
std::string finish_number(Heap& heap, const Spec& spec, const std::string& sign, std::string digits,
                          const std::string& rest, size_t group) {
  const auto used = static_cast<int64_t>(sign.size() + rest.size());
  if (spec.align == '=' && spec.fill == "0" && spec.grouping) {  // zeros take part in the grouping
    heap.room(static_cast<size_t>(spec.width));
    while (used + static_cast<int64_t>(grouped(digits, spec.grouping, group).size()) < spec.width) {
      heap.work(digits.size());
      digits.insert(0, 1, '0');
    }
  }
  const std::string number = grouped(digits, spec.grouping, group) + rest;
  if (spec.align == '^') return center(heap, spec, sign + number);
  if (spec.align != '=') return pad(heap, spec, sign + number, '>');
  return sign + justified(heap, number, spec.width - static_cast<int64_t>(sign.size()), spec.fill, 1);
}

std::string sign_of(const Spec& spec, bool negative) {
  return negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
}

std::string format_integer(Heap& heap, int64_t n, const Spec& spec) {
  if (spec.precision >= 0) fail("Precision not allowed in integer format specifier");
  std::string prefix;
  unsigned base = 10;
  switch (spec.type) {
    case 0:
    case 'd':
    case 'n':
      break;
    case 'b':
      base = 2, prefix = "0b";
      break;
    case 'o':
      base = 8, prefix = "0o";
      break;
    case 'x':
      base = 16, prefix = "0x";
      break;
    case 'X':
      base = 16, prefix = "0X";
      break;
    case 'c':
      if (n < 0 || n > 0x10FFFF || (n >= 0xD800 && n < 0xE000)) fail("%c: not a character");
      return pad(heap, spec, utf8(static_cast<char32_t>(n)), '<');
    default:
      fail(cat("Unknown format code '", spec.type, "' for object of type 'int'"));
  }
  if (spec.grouping == ',' && base != 10) fail(cat("Cannot specify ',' with '", spec.type, "'."));
  const std::string sign = cat(sign_of(spec, n < 0), spec.alternate ? prefix : "");
  return finish_number(heap, spec, sign, digits_in_base(magnitude(n), base, spec.type == 'X'), "",
                       base == 10 ? 3 : 4);
}

std::string format_real(Heap& heap, double x, const Spec& spec) {
  std::string text;
  char type = spec.type;
  const int64_t precision = spec.precision < 0 ? 6 : spec.precision;
  if (type == 0 && spec.precision < 0) {
    text = float_text(std::abs(x));
  } else if (type == 0) {
    text = c_format(std::abs(x), 'g', std::max<int64_t>(precision, 1), spec.alternate);
    // A number that looks whole keeps its fraction.
    if (std::isfinite(x) && text.find_first_of(".e") == std::string::npos) {
      text += ".0";
      if (static_cast<int64_t>(text.size()) - 2 >= precision)
        text = c_format(std::abs(x), 'e', std::max<int64_t>(precision, 1) - 1, spec.alternate);
    }
  } else if (type == '%') {
    text = c_format(std::abs(x) * 100, 'f', precision, spec.alternate) + "%";
  } else if (std::string_view("eEfFgGn").find(type) != std::string_view::npos) {
    text = c_format(std::abs(x), type == 'n' ? 'g' : type, precision, spec.alternate);
  } else {
    fail(cat("Unknown format code '", type, "' for object of type 'float'"));
  }
  const size_t whole = std::min(text.find_first_not_of("0123456789"), text.size());
  return finish_number(heap, spec, sign_of(spec, std::signbit(x) && !std::isnan(x)), text.substr(0, whole),
                       text.substr(whole), 3);
}
}  // namespace

std::string format_value(Heap& heap, const Value& value, const std::string& spec_text) {
  if (spec_text.empty()) return printed(heap, value);
  const Spec spec = SpecParser(spec_text).parse();
  if (value.is(Kind::kString)) return format_text(heap, value.text(), spec);
  const bool real = spec.type != 0 && std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos;
  if (value.is(Kind::kFloat) || (value.is_integral() && real)) return format_real(heap, value.real(), spec);
  if (value.is_integral()) return format_integer(heap, value.integer(), spec);
  fail(cat("unsupported format string passed to ", type_name(value), ".__format__"));
}

namespace {
class Braces {
 public:
  Braces(Heap& heap, const Value& format, const Arguments& arguments)
      : heap_(heap), markup_(format.markup()), arguments_(arguments) {}

  std::string run(std::string_view text, int depth) {
    if (depth < 0) fail("Max string recursion exceeded");
    Builder out(heap_);
    for (size_t at = 0; at < text.size();) {
      const size_t brace = std::min(text.find_first_of("{}", at), text.size());
      out.add(text.substr(at, brace - at));
      if (brace == text.size()) break;
      at = brace + 1;
      if (at < text.size() && text[at] == text[brace]) {
        out.add(text.substr(at++, 1));
        continue;
      }
      if (text[brace] == '}') fail("Single '}' encountered in format string");
      const size_t end = closing(text, at);
      field(out, text.substr(at, end - at), depth);
      at = end + 1;
    }
    return out.take();
  }

 private:
  static size_t closing(std::string_view text, size_t at) {
    for (int depth = 1; at < text.size(); ++at) {
      if (text[at] == '{') ++depth;
      if (text[at] == '}' && --depth == 0) return at;
    }
    fail("expected '}' before end of string");
  }

  void field(Builder& out, std::string_view text, int depth) {
    const size_t colon = std::min(text.find_first_of(":!", 0), text.size());
    Value value = resolve(text.substr(0, colon));
    std::string spec;
    if (colon < text.size() && text[colon] == '!') {
      if (colon + 1 >= text.size()) fail("end of string while looking for conversion specifier");
      const char conversion = text[colon + 1];
      if (conversion != 's' && conversion != 'r')
        fail(cat("Unknown conversion specifier '", conversion, "'"));
      value = heap_.string(conversion == 's' ? printed(heap_, value) : represented(heap_, value));
      const std::string_view rest = text.substr(colon + 2);
      if (!rest.empty() && rest[0] != ':') fail("expected ':' after conversion specifier");
      if (!rest.empty()) spec = run(rest.substr(1), depth - 1);
    } else if (colon < text.size()) {
      spec = run(text.substr(colon + 1), depth - 1);
    }
    const std::string shown = format_value(heap_, value, spec);
    out.add(markup_ && !value.markup() ? escaped(shown) : shown);
  }

  Value resolve(std::string_view name) {
    const size_t end = std::min(name.find_first_of(".["), name.size());
    Value value = first(std::string(name.substr(0, end)));
    for (size_t at = end; at < name.size();) {
      if (name[at] == '.') {
        const size_t stop = std::min(name.find_first_of(".[", at + 1), name.size());
        if (stop == at + 1) fail("Empty attribute in format string");
        value = attribute(heap_, value, std::string(name.substr(at + 1, stop - at - 1)));
        at = stop;
      } else if (name[at] == '[') {
        const size_t stop = name.find(']', at);
        if (stop == name.npos || stop == at + 1) fail("Missing ']' in format string");
        const std::string_view key = name.substr(at + 1, stop - at - 1);
        const auto index = all_digits(key) ? parse_integer(key, 10) : std::nullopt;
        value = item(heap_, value, index ? Value(*index) : heap_.string(std::string(key)));
        at = stop + 1;
      } else {
        fail("Only '.' or '[' may follow ']' in format field specifier");
      }
    }
    return value;
  }

  static bool all_digits(std::string_view text) {
    return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
  }

  Value first(const std::string& name) {
    if (name.empty() || all_digits(name)) {
      const bool automatic = name.empty();
      if (numbering_ && *numbering_ != automatic)
        fail("cannot switch between manual field specification and automatic field numbering");
      numbering_ = automatic;
      const int64_t i = automatic ? next_++ : parse_integer(name, 10).value_or(INT64_MAX);
      if (static_cast<uint64_t>(i) >= arguments_.positional.size())
        fail("Replacement index is out of range for positional args tuple");
      return arguments_.positional[static_cast<size_t>(i)];
    }
    for (const auto& [key, value] : arguments_.named) {
      if (key == name) return value;
    }
    fail(cat("the format names ", string_repr(name), ", which is not there"));
  }

  Heap& heap_;
  bool markup_;
  const Arguments& arguments_;
  std::optional<bool> numbering_;
  int64_t next_ = 0;
};
}  // namespace

Value format_braces(Heap& heap, const Value& format, const Arguments& arguments) {
  return heap.string(Braces(heap, format, arguments).run(format.text(), 2), format.markup());
}

}  // namespace llmtool::jinja
