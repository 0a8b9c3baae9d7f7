#include "text/template_unicode.h"

#include <unicode/casemap.h>
#include <unicode/uchar.h>
#include <unicode/ustring.h>

#include <algorithm>
#include <cstring>
#include <set>

namespace llmtool::jinja {

namespace {
UChar32 icu(char32_t c) { return static_cast<UChar32>(c); }
bool has(char32_t c, UProperty property) { return u_hasBinaryProperty(icu(c), property); }
bool continues(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }
}  // namespace

std::string utf8(char32_t c) {
  std::string text;
  unicode::append(text, c);
  return text;
}

size_t byte_offset(std::string_view text, size_t index) {
  size_t at = 0;
  for (; at < text.size(); ++at) {
    if (!continues(text[at]) && index-- == 0) return at;
  }
  return at;
}

std::u32string decode(std::string_view text) {
  std::u32string out;
  for (size_t at = 0; at < text.size();) out += unicode::next(text, at);
  return out;
}

std::string encode(std::u32string_view text) {
  std::string out;
  for (const char32_t c : text) unicode::append(out, c);
  return out;
}

bool is_space(char32_t c) {
  return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}
bool is_alpha(char32_t c) { return (U_MASK(u_charType(icu(c))) & U_GC_L_MASK) != 0; }
bool is_decimal(char32_t c) { return u_getIntPropertyValue(icu(c), UCHAR_NUMERIC_TYPE) == U_NT_DECIMAL; }
bool is_digit(char32_t c) {
  const int32_t type = u_getIntPropertyValue(icu(c), UCHAR_NUMERIC_TYPE);
  return type == U_NT_DECIMAL || type == U_NT_DIGIT;
}
bool is_numeric(char32_t c) { return u_getIntPropertyValue(icu(c), UCHAR_NUMERIC_TYPE) != U_NT_NONE; }
bool is_lower(char32_t c) { return has(c, UCHAR_LOWERCASE); }
bool is_upper(char32_t c) { return has(c, UCHAR_UPPERCASE); }
bool is_title(char32_t c) { return u_charType(icu(c)) == U_TITLECASE_LETTER; }
bool is_cased(char32_t c) { return has(c, UCHAR_CASED); }
bool is_printable(char32_t c) {
  constexpr uint32_t kHidden = U_GC_C_MASK | U_GC_Z_MASK;
  return c == ' ' || (U_MASK(u_charType(icu(c))) & kHidden) == 0;
}
bool is_identifier_start(char32_t c) { return c == '_' || has(c, UCHAR_XID_START); }
bool is_identifier_part(char32_t c) { return has(c, UCHAR_XID_CONTINUE); }
int decimal_value(char32_t c) { return is_decimal(c) ? u_charDigitValue(icu(c)) : -1; }

namespace {
/// A capital sigma ends a word: a cased character before it, none behind, whatever may be ignored between.
bool ends_word(std::string_view text, size_t at, size_t after) {
  const auto ignorable = [](char32_t c) { return has(c, UCHAR_CASE_IGNORABLE); };
  bool cased_before = false;
  for (size_t i = at; i > 0;) {
    do --i;
    while (i > 0 && continues(text[i]));
    size_t start = i;
    const char32_t c = unicode::next(text, start);
    if (ignorable(c)) continue;
    cased_before = is_cased(c);
    break;
  }
  if (!cased_before) return false;
  while (after < text.size()) {
    const char32_t c = unicode::next(text, after);
    if (!ignorable(c)) return !is_cased(c);
  }
  return true;
}
}  // namespace

void append_mapped(std::string& out, std::string_view text, size_t at, char32_t c, Case to) {
  if (c < 0x80) {
    const bool small = c >= 'a' && c <= 'z', capital = c >= 'A' && c <= 'Z';
    const bool up = to == Case::kUpper || to == Case::kTitle;
    out += static_cast<char>(up && small ? c - 32 : !up && capital ? c + 32 : c);
    return;
  }
  const std::string_view self = text.substr(at, utf8(c).size());
  if (c == 0x3A3 && to == Case::kLower) {
    out += ends_word(text, at, at + self.size()) ? "\xCF\x82" : "\xCF\x83";
    return;
  }
  if (to == Case::kTitle && !has(c, UCHAR_CHANGES_WHEN_TITLECASED)) {
    out += self;
    return;
  }
  UErrorCode status = U_ZERO_ERROR;
  UChar source[2], mapped[8];
  int32_t n = 0;
  u_strFromUTF8(source, 2, &n, self.data(), static_cast<int32_t>(self.size()), &status);
  if (to == Case::kUpper) {
    n = u_strToUpper(mapped, 8, source, n, "", &status);
  } else if (to == Case::kLower) {
    n = u_strToLower(mapped, 8, source, n, "", &status);
  } else if (to == Case::kFold) {
    n = u_strFoldCase(mapped, 8, source, n, U_FOLD_CASE_DEFAULT, &status);
  } else {
    n = icu::CaseMap::toTitle("", U_TITLECASE_WHOLE_STRING | U_TITLECASE_NO_BREAK_ADJUSTMENT, nullptr, source,
                              n, mapped, 8, nullptr, status);
  }
  char bytes[32];
  int32_t size = 0;
  u_strToUTF8(bytes, 32, &size, mapped, n, &status);
  out.append(U_SUCCESS(status) ? std::string_view(bytes, static_cast<size_t>(size)) : self);
}

std::string mapped(std::string_view text, Case to) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t start = at;
    const char32_t c = unicode::next(text, at);
    append_mapped(out, text, start, c, to);
  }
  return out;
}

std::string capitalized(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t start = at;
    const char32_t c = unicode::next(text, at);
    append_mapped(out, text, start, c, start == 0 ? Case::kTitle : Case::kLower);
  }
  return out;
}

std::string titled(std::string_view text) {
  std::string out;
  bool cased = false;  // the character before
  for (size_t at = 0; at < text.size();) {
    const size_t start = at;
    const char32_t c = unicode::next(text, at);
    append_mapped(out, text, start, c, cased ? Case::kLower : Case::kTitle);
    cased = is_cased(c);
  }
  return out;
}

std::string swapped(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t start = at;
    const char32_t c = unicode::next(text, at);
    if (is_upper(c)) {
      append_mapped(out, text, start, c, Case::kLower);
    } else if (is_lower(c)) {
      append_mapped(out, text, start, c, Case::kUpper);
    } else {
      unicode::append(out, c);
    }
  }
  return out;
}

namespace {
template <class Drop>
std::string_view strip_if(std::string_view text, bool left, bool right, const Drop& drop) {
  size_t from = 0, to = text.size();
  while (left && from < to) {
    size_t after = from;
    if (!drop(unicode::next(text, after))) break;
    from = after;
  }
  while (right && to > from) {
    size_t start = to - 1;
    while (start > from && continues(text[start])) --start;
    size_t at = start;
    if (!drop(unicode::next(text, at))) break;
    to = start;
  }
  return text.substr(from, to - from);
}
}  // namespace

std::string_view strip(std::string_view text, bool left, bool right) {
  return strip_if(text, left, right, is_space);
}

std::string_view strip(std::string_view text, std::string_view characters, bool left, bool right) {
  std::set<char32_t> dropped;
  for (size_t at = 0; at < characters.size();) dropped.insert(unicode::next(characters, at));
  return strip_if(text, left, right, [&](char32_t c) { return dropped.contains(c); });
}

size_t find(std::string_view text, std::string_view needle, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (needle.empty()) return from;
  const void* at = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  return at ? static_cast<size_t>(static_cast<const char*>(at) - text.data()) : std::string_view::npos;
}

size_t find_last(std::string_view text, std::string_view needle) {
  if (needle.empty()) return text.size();
  const std::string back(text.rbegin(), text.rend()), wanted(needle.rbegin(), needle.rend());
  const size_t at = find(back, wanted);
  return at == std::string_view::npos ? at : text.size() - at - needle.size();
}

}  // namespace llmtool::jinja
