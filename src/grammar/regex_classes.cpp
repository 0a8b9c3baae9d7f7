#include "grammar/regex_classes.h"

#include <unicode/uniset.h>

#include <algorithm>

namespace llmtool {

CodePoints regex_class(char32_t letter) {
  CodePoints set;
  if (letter == '.') {
    for (const char32_t c : {U'\n', U'\r', U'\u2028', U'\u2029'}) set.add(c);
    return set.complement();
  }
  if (letter == 's') {
    for (const char32_t c :
         {U' ', U'\u00A0', U'\u1680', U'\u2028', U'\u2029', U'\u202F', U'\u205F', U'\u3000', U'\uFEFF'})
      set.add(c);
    set.add('\t', '\r');
    set.add(0x2000, 0x200A);
    return set;
  }
  set.add('0', '9');
  if (letter == 'w') {
    set.add('a', 'z');
    set.add('A', 'Z');
    set.add('_');
  }
  return set;
}

std::optional<CodePoints> unicode_property(const std::string& name) {
  const bool plain = std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return c < 0x80 && (std::isalnum(c) != 0 || c == '_' || c == '=');
  });
  if (name.empty() || !plain) return std::nullopt;
  const size_t equals = name.find('=');
  const std::string value = equals == std::string::npos ? "" : name.substr(equals + 1);
  UErrorCode code = U_ZERO_ERROR;
  icu::UnicodeSet found;
  found.applyPropertyAlias(icu::UnicodeString::fromUTF8(name.substr(0, equals)),
                           icu::UnicodeString::fromUTF8(value), code);
  if (U_FAILURE(code)) return std::nullopt;
  CodePoints set;
  for (int32_t i = 0; i < found.getRangeCount(); ++i) {
    set.add(static_cast<char32_t>(found.getRangeStart(i)), static_cast<char32_t>(found.getRangeEnd(i)));
  }
  return set;
}

}  // namespace llmtool
