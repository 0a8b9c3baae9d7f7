// The methods of Python's str.

#include <algorithm>
#include <unordered_map>

#include "llmtool/core/error.h"
#include "text/template_eval.h"
#include "text/template_unicode.h"

namespace llmtool::jinja {

namespace {
using Method = Value (*)(Heap&, const Value&, Arguments&);

Value text_of(Heap& heap, std::string_view text, const Value& self) {
  return heap.string(std::string(text), self.markup());
}
/// What joins a text that is safe in HTML is made so.
std::string joined_to(Heap& heap, const Value& self, const Value& other, const char* what) {
  return self.markup() ? escape(heap, other).text() : required_text(other, what);
}

template <bool kLeft, bool kRight>
Value strip_method(Heap& heap, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "strip()", {""});
  heap.work(self.text().size());
  if (bound.none(0)) return text_of(heap, strip(self.text(), kLeft, kRight), self);
  return text_of(heap, strip(self.text(), bound.text(0), kLeft, kRight), self);
}

enum class Whole { kLower, kUpper, kFold, kTitle, kCapitalize, kSwap };
template <Whole kTo>
Value case_method(Heap& heap, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "a case method", {});
  const std::string& text = self.text();
  heap.room(3 * text.size());
  heap.work(32 * text.size());
  switch (kTo) {
    case Whole::kLower:
      return text_of(heap, mapped(text, Case::kLower), self);
    case Whole::kUpper:
      return text_of(heap, mapped(text, Case::kUpper), self);
    case Whole::kFold:
      return text_of(heap, mapped(text, Case::kFold), self);
    case Whole::kTitle:
      return text_of(heap, titled(text), self);
    case Whole::kCapitalize:
      return text_of(heap, capitalized(text), self);
    case Whole::kSwap:
      return text_of(heap, swapped(text), self);
  }
  return self;
}

/// All characters are `kind`, and there is one.
template <bool (*kIs)(char32_t)>
Value all_method(Heap& heap, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "a character test", {});
  const std::string& text = self.text();
  heap.work(text.size());
  bool all = !text.empty();
  for (size_t at = 0; all && at < text.size();) all = kIs(unicode::next(text, at));
  return Value(all);
}
bool is_alnum(char32_t c) { return is_alpha(c) || is_numeric(c); }

template <bool (*kIs)(char32_t), bool (*kOther)(char32_t)>
Value cased_method(Heap& heap, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "a case test", {});
  const std::string& text = self.text();
  heap.work(text.size());
  bool any = false;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = unicode::next(text, at);
    if (kOther(c) || is_title(c)) return Value(false);
    any = any || kIs(c);
  }
  return Value(any);
}

Value istitle(Heap& heap, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "istitle()", {});
  heap.work(self.text().size());
  bool any = false, cased = false;
  for (size_t at = 0; at < self.text().size();) {
    const char32_t c = unicode::next(self.text(), at);
    const bool up = is_upper(c) || is_title(c), low = is_lower(c);
    if ((up && cased) || (low && !cased)) return Value(false);
    any = any || up || low;
    cased = up || low;
  }
  return Value(any);
}
Value isascii(Heap& heap, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "isascii()", {});
  heap.work(self.text().size());
  return Value(unicode::is_ascii(self.text()));
}
Value isprintable(Heap& heap, const Value& self, Arguments& arguments) {
  if (self.text().empty()) return Value(true);
  return all_method<is_printable>(heap, self, arguments);
}
Value isidentifier(Heap& heap, const Value& self, Arguments& arguments) {
  if (self.text().empty()) return Value(false);
  size_t at = 0;
  if (!is_identifier_start(unicode::next(self.text(), at))) return Value(false);
  return all_method<is_identifier_part>(heap, self, arguments);
}

/// Whether one of the texts (one, or a tuple of them) stands at the end of the part.
template <bool kStart>
Value affix_method(Heap& heap, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, kStart ? "startswith()" : "endswith()", {"", "", ""}, 1);
  const std::string& text = self.text();
  heap.work(text.size());
  const auto size = static_cast<int64_t>(unicode::length(text));
  const auto place = [&](size_t i, int64_t fallback) {
    const int64_t n = bound.none(i) ? fallback : bound.integer(i, fallback);
    return n < 0 ? std::max(n, -size) + size : n;
  };
  const int64_t from = place(1, 0), to = std::min(place(2, size), size);
  const bool outside = from > to;
  const size_t start = byte_offset(text, static_cast<size_t>(std::min(from, size)));
  const size_t end = outside ? start : byte_offset(text, static_cast<size_t>(to));
  const std::string_view part = std::string_view(text).substr(start, end - start);
  const auto fits = [&](const Value& affix) {
    const std::string& t = required_text(affix, kStart ? "startswith()" : "endswith()");
    return !outside && (kStart ? part.starts_with(t) : part.ends_with(t));
  };
  if (!bound[0].is(Kind::kTuple)) return Value(fits(bound[0]));
  const Values& all = bound[0].items();
  heap.step(all.size());
  return Value(std::any_of(all.begin(), all.end(), fits));
}

template <bool kPrefix>
Value remove_method(Heap& heap, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, kPrefix ? "removeprefix()" : "removesuffix()", {""}, 1);
  std::string_view text = self.text();
  const std::string& affix = bound.text(0);
  if (kPrefix && text.starts_with(affix)) text.remove_prefix(affix.size());
  if (!kPrefix && text.ends_with(affix)) text.remove_suffix(affix.size());
  return text_of(heap, text, self);
}

/// The part of a text that find, index and count look at: its bytes and the index where it begins.
struct Part {
  Part(Heap& heap, const Value& self, const Bound& bound) {
    const std::string& all = self.text();
    heap.work(2 * all.size());
    const auto size = static_cast<int64_t>(unicode::length(all));
    const auto place = [&](size_t i, int64_t fallback) {
      const int64_t n = bound.none(i) ? fallback : bound.integer(i, fallback);
      return n < 0 ? std::max(n, -size) + size : n;
    };
    first = place(1, 0);
    const int64_t last = std::min(place(2, size), size);
    outside = first > last;
    if (outside) return;
    const size_t start = byte_offset(all, static_cast<size_t>(first));
    text = std::string_view(all).substr(start, byte_offset(all, static_cast<size_t>(last)) - start);
  }
  std::string_view text;
  int64_t first = 0;
  bool outside = false;
};

template <bool kLast, bool kThrow>
Value find_method(Heap& heap, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, kThrow ? "index()" : "find()", {"", "", ""}, 1);
  const Part part(heap, self, bound);
  const std::string& needle = bound.text(0);
  const size_t at = part.outside ? std::string::npos
                    : kLast      ? find_last(part.text, needle)
                                 : find(part.text, needle);
  if (at != std::string::npos)
    return Value(part.first + static_cast<int64_t>(unicode::length(part.text.substr(0, at))));
  if (kThrow) fail("substring not found");
  return Value(int64_t{-1});
}

Value count(Heap& heap, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "count()", {"", "", ""}, 1);
  const Part part(heap, self, bound);
  const std::string& needle = bound.text(0);
  if (part.outside) return Value(int64_t{0});
  if (needle.empty()) return Value(static_cast<int64_t>(unicode::length(part.text)) + 1);
  int64_t n = 0;
  for (size_t at = 0; (at = find(part.text, needle, at)) != std::string::npos; at += needle.size()) ++n;
  return Value(n);
}

Value join(Heap& heap, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "join()", {""}, 1);
  Builder out(heap);
  bool first = true;
  const Value iterator = required_iterator(heap, bound[0]);
  for (Value item; next(heap, iterator, item);) {
    if (!std::exchange(first, false)) out.add(self.text());
    out.add(joined_to(heap, self, item, "join()"));
  }
  return out.value(self.markup());
}

Value replace(Heap& heap, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "replace()", {"", "", ""}, 2);
  return heap.string(replaced(heap, self.text(), bound.text(0), joined_to(heap, self, bound[1], "replace()"),
                              bound.integer(2, -1)),
                     self.markup());
}

Value pieces(Heap& heap, const std::vector<std::string_view>& parts, const Value& self) {
  Values items;
  for (const std::string_view part : parts) items.push_back(text_of(heap, part, self));
  return heap.list(std::move(items));
}

/// At most that many cuts, from the left.
std::vector<std::string_view> split_at(Heap& heap, std::string_view text, const std::string& separator,
                                       int64_t cuts) {
  std::vector<std::string_view> parts;
  size_t from = 0;
  for (size_t at = 0; cuts != 0 && (at = find(text, separator, from)) != std::string::npos; --cuts) {
    heap.step();
    parts.push_back(text.substr(from, at - from));
    from = at + separator.size();
  }
  parts.push_back(text.substr(from));
  return parts;
}

/// At most that many cuts, from the right: of the ends that `find` sees in the text backwards.
std::vector<std::string_view> split_back(Heap& heap, std::string_view text, const std::string& separator,
                                         int64_t cuts) {
  const std::string back(text.rbegin(), text.rend()), wanted(separator.rbegin(), separator.rend());
  std::vector<std::string_view> parts = split_at(heap, back, wanted, cuts);
  size_t end = text.size();
  for (std::string_view& part : parts) {
    const size_t size = part.size();
    part = text.substr(end - size, size);
    end -= std::min(end, size + separator.size());
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string_view> split_words(Heap& heap, std::string_view text, int64_t cuts) {
  std::vector<std::string_view> parts;
  for (text = strip(text, true, false); !text.empty(); text = strip(text, true, false)) {
    heap.step();
    if (cuts-- == 0) {
      parts.push_back(strip(text, false, true));
      return parts;
    }
    size_t end = 0;
    for (size_t at = 0; at < text.size() && !is_space(unicode::next(text, at));) end = at;
    parts.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return parts;
}

std::vector<std::string_view> split_words_back(Heap& heap, std::string_view text, int64_t cuts) {
  std::vector<std::string_view> words = split_words(heap, text, -1);
  if (cuts < 0 || words.size() <= static_cast<uint64_t>(cuts) + 1) return words;
  const size_t merged = words.size() - static_cast<size_t>(cuts);
  const char* end = words[merged - 1].data() + words[merged - 1].size();
  const std::string_view head = strip(text, true, false);
  std::vector<std::string_view> parts = {head.substr(0, static_cast<size_t>(end - head.data()))};
  parts.insert(parts.end(), words.begin() + static_cast<std::ptrdiff_t>(merged), words.end());
  return parts;
}

template <bool kBack>
Value split_method(Heap& heap, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, kBack ? "rsplit()" : "split()", {"sep", "maxsplit"});
  const int64_t cuts = bound.integer(1, -1);
  heap.work(self.text().size());
  if (bound.none(0)) {
    return pieces(
        heap, kBack ? split_words_back(heap, self.text(), cuts) : split_words(heap, self.text(), cuts), self);
  }
  const std::string& separator = bound.text(0);
  if (separator.empty()) fail("empty separator");
  return pieces(
      heap,
      kBack ? split_back(heap, self.text(), separator, cuts) : split_at(heap, self.text(), separator, cuts),
      self);
}

Value splitlines(Heap& heap, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "splitlines()", {"keepends"});
  return pieces(heap, split_lines(heap, self.text(), bound.truth(heap, 0)), self);
}

template <bool kBack>
Value partition_method(Heap& heap, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "partition()", {""}, 1);
  const std::string_view text = self.text(), separator = bound.text(0);
  if (separator.empty()) fail("empty separator");
  heap.work(2 * text.size());
  const size_t at = kBack ? find_last(text, separator) : find(text, separator);
  const Value empty = text_of(heap, "", self);
  if (at == std::string::npos)
    return heap.tuple(kBack ? Values{empty, empty, self} : Values{self, empty, empty});
  return heap.tuple({text_of(heap, text.substr(0, at), self), text_of(heap, separator, self),
                     text_of(heap, text.substr(at + separator.size()), self)});
}

enum class Side { kLeft, kRight, kCenter };
template <Side kSide>
Value justify_method(Heap& heap, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "a justifying method", {"", ""}, 1);
  const std::string fill = bound.has(1) ? joined_to(heap, self, bound[1], "the fill character") : " ";
  if (unicode::length(fill) != 1) fail("The fill character must be exactly one character long");
  return text_of(heap, justified(heap, self.text(), bound.integer(0, 0), fill, static_cast<int>(kSide)),
                 self);
}

Value zfill(Heap& heap, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "zfill()", {""}, 1);
  const std::string& text = self.text();
  const int64_t missing = bound.integer(0, 0) - static_cast<int64_t>(unicode::length(text));
  const bool sign = !text.empty() && (text[0] == '+' || text[0] == '-');
  Builder out(heap);
  out.add(std::string_view(text).substr(0, sign));
  if (bound.integer(0, 0) > 0 && missing > 0) out.repeat("0", static_cast<uint64_t>(missing));
  out.add(std::string_view(text).substr(sign));
  return out.value(self.markup());
}

Value expandtabs(Heap& heap, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "expandtabs()", {"tabsize"});
  const int64_t width = bound.integer(0, 8);
  Builder out(heap);
  int64_t column = 0;
  const std::string_view text = self.text();
  for (size_t at = 0; at < text.size();) {
    const size_t start = at;
    const char32_t c = unicode::next(text, at);
    if (c == '\t') {
      const int64_t spaces = width > 0 ? width - column % width : 0;
      out.repeat(" ", static_cast<uint64_t>(spaces));
      column += spaces;
    } else {
      out.add(text.substr(start, at - start));
      column = c == '\n' || c == '\r' ? 0 : column + 1;
    }
  }
  return out.value(self.markup());
}

Value format_method(Heap& heap, const Value& self, Arguments& arguments) {
  return format_braces(heap, self, arguments);
}

const std::unordered_map<std::string, Method> kMethods = {
    {"strip", strip_method<true, true>},
    {"lstrip", strip_method<true, false>},
    {"rstrip", strip_method<false, true>},
    {"lower", case_method<Whole::kLower>},
    {"upper", case_method<Whole::kUpper>},
    {"casefold", case_method<Whole::kFold>},
    {"title", case_method<Whole::kTitle>},
    {"capitalize", case_method<Whole::kCapitalize>},
    {"swapcase", case_method<Whole::kSwap>},
    {"isalpha", all_method<is_alpha>},
    {"isalnum", all_method<is_alnum>},
    {"isdecimal", all_method<is_decimal>},
    {"isdigit", all_method<is_digit>},
    {"isnumeric", all_method<is_numeric>},
    {"isspace", all_method<is_space>},
    {"isprintable", isprintable},
    {"isidentifier", isidentifier},
    {"isascii", isascii},
    {"istitle", istitle},
    {"islower", cased_method<is_lower, is_upper>},
    {"isupper", cased_method<is_upper, is_lower>},
    {"startswith", affix_method<true>},
    {"endswith", affix_method<false>},
    {"removeprefix", remove_method<true>},
    {"removesuffix", remove_method<false>},
    {"find", find_method<false, false>},
    {"rfind", find_method<true, false>},
    {"index", find_method<false, true>},
    {"rindex", find_method<true, true>},
    {"count", count},
    {"join", join},
    {"replace", replace},
    {"split", split_method<false>},
    {"rsplit", split_method<true>},
    {"splitlines", splitlines},
    {"partition", partition_method<false>},
    {"rpartition", partition_method<true>},
    {"ljust", justify_method<Side::kLeft>},
    {"rjust", justify_method<Side::kRight>},
    {"center", justify_method<Side::kCenter>},
    {"zfill", zfill},
    {"expandtabs", expandtabs},
    {"format", format_method},
};
}  // namespace

std::optional<Value> string_method(Heap& heap, const Value& text, const std::string& name) {
  const auto found = kMethods.find(name);
  if (found == kMethods.end()) {
    for (const char* known : {"encode", "format_map", "maketrans", "translate", "striptags", "unescape"}) {
      if (name == known) fail(cat("the method '", name, "' of a string is not supported"));
    }
    return {};
  }
  Value function = heap.function(name, text.depth(), [text, method = found->second](Heap& h, Arguments& a) {
    return method(h, text, a);
  });
  function.as<FunctionObject>().shown = cat("<built-in method ", name, " of str object>");
  return function;
}

std::string replaced(Heap& heap, std::string_view text, std::string_view from, std::string_view to,
                     int64_t times) {
  Builder out(heap);
  if (from.empty()) {  // between all characters
    size_t at = 0;
    for (; times != 0 && at <= text.size(); --times) {
      const size_t start = at;
      out.add(to);
      if (at == text.size()) return out.take();
      unicode::next(text, at);
      out.add(text.substr(start, at - start));
    }
    return out.add(text.substr(at)).take();
  }
  size_t start = 0;
  heap.work(text.size());
  for (size_t at = 0; times != 0 && (at = find(text, from, start)) != std::string::npos; --times) {
    out.add(text.substr(start, at - start)).add(to);
    start = at + from.size();
  }
  return out.add(text.substr(start)).take();
}

std::vector<std::string_view> split_lines(Heap& heap, std::string_view text, bool keep_ends) {
  heap.work(text.size());
  std::vector<std::string_view> lines;
  size_t start = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = at;
    const char32_t c = unicode::next(text, at);
    const bool breaks =
        (c >= 10 && c <= 13) || (c >= 28 && c <= 30) || c == 0x85 || c == 0x2028 || c == 0x2029;
    if (!breaks) continue;
    if (c == '\r' && at < text.size() && text[at] == '\n') ++at;
    lines.push_back(text.substr(start, (keep_ends ? at : end) - start));
    start = at;
  }
  if (start < text.size()) lines.push_back(text.substr(start));
  return lines;
}

std::string justified(Heap& heap, std::string_view text, int64_t width, std::string_view fill, int side) {
  const auto size = static_cast<int64_t>(unicode::length(text));
  Builder out(heap);
  if (width <= size) return out.add(text).take();
  const auto missing = static_cast<uint64_t>(width - size);
  // As CPython puts the odd one.
  const uint64_t centered = missing / 2 + (missing & static_cast<uint64_t>(width) & 1);
  const uint64_t before = side == 0 ? 0 : side == 1 ? missing : centered;
  return out.repeat(fill, before).add(text).repeat(fill, missing - before).take();
}

}  // namespace llmtool::jinja
