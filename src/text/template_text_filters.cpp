#include <algorithm>
#include <unordered_map>

#include "llmtool/core/error.h"
#include "text/template_eval.h"
#include "text/template_unicode.h"

namespace llmtool::jinja {

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

Value escape(Heap& heap, const Value& value) {
  if (value.markup()) return value;
  const std::string text = printed(heap, value);
  heap.room(5 * text.size());
  return heap.string(escaped(text), true);
}

namespace {
/// The value as text, still safe in HTML where it was.
Value soft(Heap& heap, const Value& value) {
  return value.is(Kind::kString) ? value : heap.string(printed(heap, value));
}

template <std::string (*kTo)(std::string_view)>
Value mapping_filter(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "a case filter", {});
  const Value text = soft(heap, value);
  heap.room(3 * text.text().size());
  heap.work(32 * text.text().size());
  return heap.string(kTo(text.text()), text.markup());
}
std::string upper(std::string_view text) { return mapped(text, Case::kUpper); }
std::string lower(std::string_view text) { return mapped(text, Case::kLower); }
/// Words begin behind spaces, hyphens and opening brackets.
std::string title(std::string_view text) {
  const auto separates = [](char32_t c) {
    return is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
  };
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t start = at;
    const char32_t first = unicode::next(text, at);
    append_mapped(out, text, start, first, Case::kUpper);
    const size_t rest = at;
    for (size_t ahead = at; ahead < text.size() && separates(unicode::next(text, ahead)) == separates(first);)
      at = ahead;
    out += mapped(text.substr(rest, at - rest), Case::kLower);
  }
  return out;
}

Value center(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "center", {"width"});
  const Value text = soft(heap, value);
  return heap.string(justified(heap, text.text(), bound.integer(0, 80), " ", 2), text.markup());
}

Value escape_filter(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "escape", {});
  return escape(heap, value);
}
Value forceescape(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "forceescape", {});
  return escape(heap, heap.string(printed(heap, value)));
}
Value safe(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "safe", {});
  return heap.string(printed(heap, value), true);
}
Value string(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "string", {});
  return soft(heap, value);
}

Value format(Heap& heap, const Value& value, Arguments& arguments) {
  if (!arguments.named.empty() && !arguments.positional.empty())
    fail("format: can't handle positional and keyword arguments at the same time");
  const Value text = soft(heap, value);
  if (arguments.named.empty()) return format_percent(heap, text, heap.tuple(arguments.positional));
  std::vector<std::pair<Value, Value>> named;
  for (const auto& [name, v] : arguments.named) named.emplace_back(heap.string(name), v);
  return format_percent(heap, text, heap.dict(std::move(named)));
}

Value indent(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "indent", {"width", "first", "blank"});
  const std::string text = required_text(value, "indent") + "\n";
  std::string_view unit = " ";
  uint64_t times = 4;
  std::string given;
  if (bound.has(0) && bound[0].is(Kind::kString)) {
    given = value.markup() && !bound[0].markup() ? escaped(bound[0].text()) : bound[0].text();
    unit = given;
    times = 1;
  } else {
    times = static_cast<uint64_t>(std::max<int64_t>(bound.integer(0, 4), 0));
  }
  const bool first = bound.truth(heap, 1), blank = bound.truth(heap, 2);
  Builder out(heap);
  const std::vector<std::string_view> lines = split_lines(heap, text, false);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out.add("\n");
    if (i == 0 ? first : blank || !lines[i].empty()) out.repeat(unit, times);
    out.add(lines[i]);
  }
  return out.value(value.markup());
}

Value replace(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "replace", {"old", "new", "count"}, 2);
  const int64_t times = bound.none(2) ? -1 : bound.integer(2, -1);
  return heap.string(
      replaced(heap, printed(heap, value), printed(heap, bound[0]), printed(heap, bound[1]), times));
}

Value trim(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "trim", {"chars"});
  const Value text = soft(heap, value);
  heap.work(text.text().size());
  const std::string_view kept =
      bound.none(0) ? strip(text.text(), true, true) : strip(text.text(), bound.text(0), true, true);
  return heap.string(std::string(kept), text.markup());
}

Value truncate(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "truncate", {"length", "killwords", "end", "leeway"});
  const int64_t size = bound.integer(0, 255), leeway = bound.none(3) ? 5 : bound.integer(3, 5);
  const std::string end = bound.has(2) ? bound.text(2) : "...";
  const auto tail = static_cast<int64_t>(unicode::length(end));
  if (size < tail) fail(cat("truncate: expected length >= ", tail, ", got ", size));
  if (leeway < 0) fail(cat("truncate: expected leeway >= 0, got ", leeway));
  const int64_t most = size > INT64_MAX - leeway ? INT64_MAX : size + leeway;
  if (required_length(value) <= most) return value;
  const std::string& text = required_text(value, "truncate");
  std::string kept = text.substr(0, byte_offset(text, static_cast<size_t>(size - tail)));
  if (!bound.truth(heap, 1)) kept.resize(std::min(kept.rfind(' '), kept.size()));
  return heap.string(kept + (value.markup() ? escaped(end) : end), value.markup());
}

std::string quoted(std::string_view text, bool query) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) || std::string_view("_.-~").find(c) != std::string_view::npos ||
        (c == '/' && !query)) {
      out += c;
    } else if (c == ' ' && query) {
      out += '+';
    } else {
      out += {'%', "0123456789ABCDEF"[byte >> 4], "0123456789ABCDEF"[byte & 15]};
    }
  }
  return out;
}

Value urlencode(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "urlencode", {});
  const auto encode = [&](const Value& v, bool query) {
    const std::string text = printed(heap, v);
    heap.room(3 * text.size());
    return quoted(text, query);
  };
  if (value.is(Kind::kString) || !iterate(heap, value)) return heap.string(encode(value, false));
  Builder out(heap);
  const auto add = [&](const Value& k, const Value& v) {
    if (!out.text().empty()) out.add("&");
    out.add(encode(k, true)).add("=").add(encode(v, true));
  };
  if (value.is(Kind::kDict)) {
    for (const auto& [k, v] : value.dict().items) add(k, v);
    return out.value();
  }
  for (const Value& pair : to_values(heap, value)) {
    const Values both = to_values(heap, pair);
    if (both.size() != 2) fail("urlencode: expected pairs");
    add(both[0], both[1]);
  }
  return out.value();
}

Value wordcount(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "wordcount", {});
  const Value text = soft(heap, value);
  heap.work(32 * text.text().size());
  int64_t n = 0;
  bool inside = false;
  for (size_t at = 0; at < text.text().size();) {
    const bool word = is_word(unicode::next(text.text(), at));
    n += word && !inside;
    inside = word;
  }
  return Value(n);
}

Value tojson(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "tojson", {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ascii = bound.truth(heap, 0);
  style.sort = bound.truth(heap, 3);
  if (!bound.none(1)) {
    style.pretty = true;
    style.item_separator.assign(1, ',');
    if (bound[1].is(Kind::kString)) {
      style.indent = bound[1].text();
    } else {
      const int64_t width = std::max<int64_t>(bound.integer(1, 0), 0);
      heap.room(static_cast<size_t>(width));
      style.indent.assign(static_cast<size_t>(width), ' ');
    }
  }
  if (!bound.none(2)) {
    const Values both = to_values(heap, bound[2]);
    if (both.size() != 2) fail("tojson: separators are two strings");
    style.item_separator = required_text(both[0], "tojson: separators");
    style.key_separator = required_text(both[1], "tojson: separators");
  }
  Builder out(heap);
  write_json(out, value, style);
  return out.value();
}

const std::unordered_map<std::string, FilterFunction> kTextFilters = {
    {"capitalize", mapping_filter<capitalized>},
    {"center", center},
    {"e", escape_filter},
    {"escape", escape_filter},
    {"forceescape", forceescape},
    {"format", format},
    {"indent", indent},
    {"lower", mapping_filter<lower>},
    {"replace", replace},
    {"safe", safe},
    {"string", string},
    {"title", mapping_filter<title>},
    {"tojson", tojson},
    {"trim", trim},
    {"truncate", truncate},
    {"upper", mapping_filter<upper>},
    {"urlencode", urlencode},
    {"wordcount", wordcount},
};
}  // namespace

const FilterFunction* find_text_filter(const std::string& name) {
  const auto found = kTextFilters.find(name);
  return found == kTextFilters.end() ? nullptr : &found->second;
}

}  // namespace llmtool::jinja
