#include <algorithm>
#include <charconv>
#include <cmath>

#include "llmtool/core/error.h"
#include "text/template_unicode.h"
#include "text/template_value.h"

namespace llmtool::jinja {

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  const std::string text(buffer, end);
  const size_t e = text.find('e');
  const int exponent = std::stoi(text.substr(e + 1));
  const bool negative = text[0] == '-';
  std::string digits = text.substr(negative, e - negative);
  if (digits.size() > 1) digits.erase(1, 1);  // the point
  std::string out = negative ? "-" : "";
  const int count = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    out += digits.substr(0, 1);
    if (count > 1) out.append(1, '.').append(digits, 1);
    const int size = std::abs(exponent);
    return out + (exponent < 0 ? "e-" : "e+") + (size < 10 ? "0" : "") + std::to_string(size);
  }
  if (exponent < 0) return out + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  const int whole = exponent + 1;
  if (count <= whole) return out + digits + std::string(static_cast<size_t>(whole - count), '0') + ".0";
  return out + digits.substr(0, static_cast<size_t>(whole)) + "." + digits.substr(static_cast<size_t>(whole));
}

namespace {
std::string hex(char32_t c, int digits) {
  std::string text;
  for (int i = digits - 1; i >= 0; --i) text += "0123456789abcdef"[(c >> (4 * i)) & 15];
  return text;
}

void append_repr(std::string& out, char32_t c, char quote) {
  if (c == static_cast<unsigned char>(quote) || c == '\\') {
    out += '\\';
    out += static_cast<char>(c);
  } else if (c == '\n') {
    out += "\\n";
  } else if (c == '\r') {
    out += "\\r";
  } else if (c == '\t') {
    out += "\\t";
  } else if (c < ' ' || c == 0x7F || (c > 0x7F && c < 0x100 && !is_printable(c))) {
    out += "\\x" + hex(c, 2);
  } else if (c < 0x7F || is_printable(c)) {
    unicode::append(out, c);
  } else {
    out += c < 0x10000 ? "\\u" + hex(c, 4) : "\\U" + hex(c, 8);
  }
}
}  // namespace

std::string string_repr(std::string_view text) {
  const bool doubled = text.find('\'') != text.npos && text.find('"') == text.npos;
  const char quote = doubled ? '"' : '\'';
  std::string out(1, quote);
  for (size_t at = 0; at < text.size();) append_repr(out, unicode::next(text, at), quote);
  return out + quote;
}

namespace {
void represent_items(Builder& out, const Value& value) {
  const bool tuple = value.is(Kind::kTuple);
  out.add(tuple ? "(" : "[");
  for (size_t i = 0; i < value.items().size(); ++i) {
    if (i) out.add(", ");
    represent(out, value.items()[i]);
  }
  out.add(tuple ? (value.items().size() == 1 ? ",)" : ")") : "]");
}

void represent_dict(Builder& out, const DictObject& dict) {
  out.add("{");
  for (size_t i = 0; i < dict.items.size(); ++i) {
    if (i) out.add(", ");
    represent(out, dict.items[i].first);
    out.add(": ");
    represent(out, dict.items[i].second);
  }
  out.add("}");
}

void represent_view(Builder& out, const ViewObject& view) {
  constexpr const char* kOpen[] = {"dict_keys([", "dict_values([", "dict_items(["};
  out.add(kOpen[static_cast<size_t>(view.view)]);
  bool first = true;
  for (const auto& [key, value] : view.dict.dict().items) {
    if (!std::exchange(first, false)) out.add(", ");
    if (view.view == ViewKind::kItems) out.add("(");
    if (view.view != ViewKind::kValues) represent(out, key);
    if (view.view == ViewKind::kItems) out.add(", ");
    if (view.view != ViewKind::kKeys) represent(out, value);
    if (view.view == ViewKind::kItems) out.add(")");
  }
  out.add("])");
}

void represent_namespace(Builder& out, const NamespaceObject& space) {
  out.add("<Namespace {");
  bool first = true;
  for (const auto& [name, value] : space.items) {
    if (!std::exchange(first, false)) out.add(", ");
    out.add(string_repr(name)).add(": ");
    represent(out, value);
  }
  out.add("}>");
}

std::string range_text(const RangeObject& range) {
  std::string text = cat("range(", range.start, ", ", range.stop);
  if (range.step != 1) text += cat(", ", range.step);
  return text + ")";
}
}  // namespace

void represent(Builder& out, const Value& value) {
  const Deeper deeper(out.heap());
  out.heap().step();
  switch (value.kind()) {
    case Kind::kUndefined:
      out.add("Undefined");
      return;
    case Kind::kNone:
      out.add("None");
      return;
    case Kind::kBool:
      out.add(value.integer() ? "True" : "False");
      return;
    case Kind::kInt:
      out.add(std::to_string(value.integer()));
      return;
    case Kind::kFloat:
      out.add(float_text(value.real()));
      return;
    case Kind::kString:
      out.heap().room(4 * value.text().size());
      if (value.markup()) out.add("Markup(");
      out.add(string_repr(value.text()));
      if (value.markup()) out.add(")");
      return;
    case Kind::kList:
    case Kind::kTuple:
      represent_items(out, value);
      return;
    case Kind::kDict:
      represent_dict(out, value.dict());
      return;
    case Kind::kView:
      represent_view(out, value.as<ViewObject>());
      return;
    case Kind::kRange:
      out.add(range_text(value.as<RangeObject>()));
      return;
    case Kind::kGenerator:
      out.add("<generator object>");
      return;
    case Kind::kNamespace:
      represent_namespace(out, value.as<NamespaceObject>());
      return;
    case Kind::kFunction:
      out.add(value.as<FunctionObject>().shown);
      return;
    case Kind::kLoop:
      out.add("<LoopContext>");
      return;
    case Kind::kCycler:
      out.add("<Cycler>");
      return;
  }
}

void print(Builder& out, const Value& value) {
  if (value.is(Kind::kUndefined)) return;
  if (value.is(Kind::kString)) {
    out.add(value.text());
  } else {
    represent(out, value);
  }
}

std::string printed(Heap& heap, const Value& value) {
  if (value.is(Kind::kString)) return value.text();
  Builder out(heap);
  print(out, value);
  return out.take();
}

std::string represented(Heap& heap, const Value& value) {
  Builder out(heap);
  represent(out, value);
  return out.take();
}

namespace {
std::string json_string(std::string_view text, bool ascii) {
  std::string out = "\"";
  for (size_t at = 0; at < text.size();) {
    const char32_t c = unicode::next(text, at);
    constexpr std::string_view kPlain = "\"\\\b\f\n\r\t", kLetter = "\"\\bfnrt";
    const size_t special = c < 0x80 ? kPlain.find(static_cast<char>(c)) : kPlain.npos;
    if (special != kPlain.npos) {
      out += '\\';
      out += kLetter[special];
    } else if (c < ' ' || (ascii && c >= 0x7F && c < 0x10000)) {
      out += "\\u" + hex(c, 4);
    } else if (ascii && c >= 0x10000) {
      out += "\\u" + hex(0xD800 + ((c - 0x10000) >> 10), 4) + "\\u" + hex(0xDC00 + (c & 0x3FF), 4);
    } else {
      unicode::append(out, c);
    }
  }
  return out + '"';
}

class JsonWriter {
 public:
  JsonWriter(Builder& out, const JsonStyle& style) : out_(out), style_(style) {}

  void write(const Value& value) {
    const Deeper deeper(out_.heap());
    out_.heap().step();
    switch (value.kind()) {
      case Kind::kNone:
        out_.add("null");
        return;
      case Kind::kBool:
        out_.add(value.integer() ? "true" : "false");
        return;
      case Kind::kInt:
        out_.add(std::to_string(value.integer()));
        return;
      case Kind::kFloat:
        out_.add(number(value.real()));
        return;
      case Kind::kString:
        text(value.text());
        return;
      case Kind::kList:
      case Kind::kTuple:
        array(value.items());
        return;
      case Kind::kDict:
        object(value.dict());
        return;
      default:
        fail(cat("Object of type ", type_name(value), " is not JSON serializable"));
    }
  }

 private:
  static std::string number(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
    return float_text(value);
  }
  void text(std::string_view t) {
    out_.heap().room(6 * t.size());
    out_.add(json_string(t, style_.ascii));
  }
  void line() {
    if (!style_.pretty) return;
    out_.add("\n").repeat(style_.indent, level_);
  }
  void array(const Values& items) {
    if (items.empty()) return void(out_.add("[]"));
    out_.add("[");
    ++level_;
    for (size_t i = 0; i < items.size(); ++i) {
      if (i) out_.add(style_.item_separator);
      line();
      write(items[i]);
    }
    --level_;
    line();
    out_.add("]");
  }
  void key(const Value& k) {
    if (k.is(Kind::kString)) return text(k.text());
    if (!k.is_number() && !k.is(Kind::kNone))
      fail(cat("keys must be str, int, float, bool or None, not ", type_name(k)));
    out_.add("\"");
    write(k);
    out_.add("\"");
  }
  void object(const DictObject& dict) {
    if (dict.items.empty()) return void(out_.add("{}"));
    std::vector<const std::pair<Value, Value>*> order;
    for (const auto& item : dict.items) order.push_back(&item);
    if (style_.sort) sort(order);
    out_.add("{");
    ++level_;
    for (size_t i = 0; i < order.size(); ++i) {
      if (i) out_.add(style_.item_separator);
      line();
      key(order[i]->first);
      out_.add(style_.key_separator);
      write(order[i]->second);
    }
    --level_;
    line();
    out_.add("}");
  }
  void sort(std::vector<const std::pair<Value, Value>*>& order) {
    // Keys of one kind only, or comparing them throws; no NaN, so that the order is one.
    std::stable_sort(order.begin(), order.end(), [&](const auto* a, const auto* b) {
      if (std::isnan(a->first.is_number() ? a->first.real() : 0)) return false;
      return less(out_.heap(), a->first, b->first);
    });
  }

  Builder& out_;
  const JsonStyle& style_;
  uint64_t level_ = 0;
};
}  // namespace

void write_json(Builder& out, const Value& value, const JsonStyle& style) {
  JsonWriter(out, style).write(value);
}

}  // namespace llmtool::jinja
