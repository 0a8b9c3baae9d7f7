#include "text/unicode.h"

#include <unicode/brkiter.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/uniset.h>

#include <memory>

#include "llmtool/core/error.h"
#include "text/utf8.h"

namespace llmtool::unicode {

namespace {
void check(UErrorCode code, const char* what) {
  if (U_FAILURE(code)) throw Error(cat("[unicode] ", what, ": ", u_errorName(code)));
}

bool assigned_by(char32_t c, uint8_t version) {
  UVersionInfo age;
  u_charAge(static_cast<UChar32>(c), age);
  return age[0] > 0 && age[0] <= version;
}
int category(char32_t c) { return 1 << u_charType(static_cast<UChar32>(c)); }

/// The reference library's normal forms know the characters of Unicode 9.0.
const icu::Normalizer2& normalizer(Form form) {
  struct All {
    icu::UnicodeSet known;
    std::unique_ptr<icu::FilteredNormalizer2> forms[4];
    All() {
      UErrorCode code = U_ZERO_ERROR;
      known = icu::UnicodeSet(u"[:age=9.0:]", code);
      known.freeze();
      const icu::Normalizer2* const whole[] = {
          icu::Normalizer2::getNFCInstance(code), icu::Normalizer2::getNFDInstance(code),
          icu::Normalizer2::getNFKCInstance(code), icu::Normalizer2::getNFKDInstance(code)};
      check(code, "normal forms");
      for (int i = 0; i < 4; ++i) forms[i] = std::make_unique<icu::FilteredNormalizer2>(*whole[i], known);
    }
  };
  static const All all;
  return *all.forms[static_cast<int>(form)];
}
}  // namespace

char32_t next(std::string_view text, size_t& at) {
  const auto byte = [&](size_t i) { return static_cast<char32_t>(static_cast<uint8_t>(text[i])); };
  const char32_t first = byte(at++);
  if (first < 0x80) return first;
  const int more = first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
  char32_t c = first & (0x3F >> more);
  for (int i = 0; i < more && at < text.size(); ++i) c = c << 6 | (byte(at++) & 0x3F);
  return c;
}

void append(std::string& text, char32_t c) {
  const auto put = [&](char32_t byte) { text += static_cast<char>(byte); };
  if (c < 0x80) return put(c);
  if (c < 0x800) {
    put(0xC0 | c >> 6);
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
  }
  put(0x80 | (c & 0x3F));
}

size_t length(std::string_view text) {
  size_t n = 0;
  for (const char c : text) n += (c & 0xC0) != 0x80;
  return n;
}

bool is_ascii(std::string_view text) {
  for (const char c : text) {
    if (static_cast<uint8_t>(c) >= 0x80) return false;
  }
  return true;
}

bool is_well_formed(std::string_view text) { return utf8_valid_length(text) == text.size(); }

std::string_view well_formed(std::string_view text, std::string& spare) {
  const size_t bad = utf8_valid_length(text);
  if (bad == text.size()) return text;
  spare.assign(text.substr(0, bad));
  for (size_t at = bad; at < text.size();) {
    if (const size_t good = utf8_valid_length(text.substr(at)); good > 0) {
      spare += text.substr(at, good);
      at += good;
    } else {
      spare += kReplacement;
      at += utf8_broken_length(text.substr(at));
    }
  }
  return spare;
}

std::string normalized(std::string_view text, Form form) {
  if (is_ascii(text)) return std::string(text);
  UErrorCode code = U_ZERO_ERROR;
  std::string out;
  icu::StringByteSink<std::string> sink(&out, static_cast<int32_t>(text.size()));
  const icu::Normalizer2& n = normalizer(form);
  n.normalizeUTF8(0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())), sink, nullptr, code);
  check(code, "normal form");
  return out;
}

std::string lowercase(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next(text, at);
    if (c == 0x130) {
      out += "i\xCC\x87";  // the only character whose small form is two
    } else {
      append(out, static_cast<char32_t>(u_tolower(static_cast<UChar32>(c))));
    }
  }
  return out;
}

void for_graphemes(std::string_view text, const std::function<void(size_t, size_t)>& found) {
  UErrorCode code = U_ZERO_ERROR;
  thread_local const std::unique_ptr<icu::BreakIterator> boundaries(
      icu::BreakIterator::createCharacterInstance(icu::Locale::getRoot(), code));
  check(code, "grapheme clusters");
  UText utext = UTEXT_INITIALIZER;
  utext_openUTF8(&utext, text.data(), static_cast<int64_t>(text.size()), &code);
  boundaries->setText(&utext, code);
  check(code, "grapheme clusters");
  for (int32_t from = 0, to = boundaries->next(); to != icu::BreakIterator::DONE;
       from = to, to = boundaries->next()) {
    found(static_cast<size_t>(from), static_cast<size_t>(to));
  }
  utext_close(&utext);
}

bool is_space(char32_t c) { return u_isUWhiteSpace(static_cast<UChar32>(c)); }
bool is_word(char32_t c) {
  return u_isUAlphabetic(static_cast<UChar32>(c)) || c == 0x200C || c == 0x200D ||
         (category(c) & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK));
}
bool is_numeric(char32_t c) { return category(c) & U_GC_N_MASK; }

// The exceptions are characters that newer versions put into another category.
bool is_punctuation(char32_t c) {
  if (c < 0x80) return c > 0x20 && c < 0x7F && !(category(c) & (U_GC_L_MASK | U_GC_N_MASK));
  if (c == 0x166D || c == 0x111C9) return true;
  return (category(c) & U_GC_P_MASK) && assigned_by(c, 8);
}
bool is_mark(char32_t c) {
  if (c == 0x1CF2 || c == 0x1CF3) return true;
  return (category(c) & U_GC_M_MASK) && c != 0x111C9 && assigned_by(c, 9);
}
bool is_nonspacing_mark(char32_t c) {
  if (c == 0x1734) return true;
  if (c == 0x1885 || c == 0x1886 || c == 0xA9BD || c == 0x111C9) return false;
  return (category(c) & U_GC_MN_MASK) && assigned_by(c, 8);
}
bool is_control(char32_t c) {
  if (category(c) & U_GC_CO_MASK) return true;
  return (category(c) & (U_GC_CC_MASK | U_GC_CF_MASK)) && assigned_by(c, 8);
}
bool is_cjk(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

}  // namespace llmtool::unicode
