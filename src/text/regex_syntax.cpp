#include "text/regex_syntax.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <unicode/uniset.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <mutex>
#include <vector>

#include "llmtool/core/error.h"
#include "text/utf8.h"

namespace llmtool {

namespace {
// White_Space of Unicode; PCRE2's \s takes U+180E in addition.
constexpr const char* kSpace =
    R"(\x09-\x0D\x20\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
constexpr const char* kNoSpace =
    R"(\x00-\x08\x0E-\x1F\x21-\x{84}\x{86}-\x{9F}\x{A1}-\x{167F}\x{1681}-\x{1FFF}\x{200B}-\x{2027})"
    R"(\x{202A}-\x{202E}\x{2030}-\x{205E}\x{2060}-\x{2FFF}\x{3001}-\x{10FFFF})";
// Oniguruma's: letters, marks, decimal numbers, connectors, and a few of Latin 1.
constexpr const char* kWord =
    R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE}\x{200C}\x{200D})";

bool is_punctuation(char c) {
  return c > 0x20 && c < 0x7F && !(c >= '0' && c <= '9') && !(c >= 'A' && c <= 'Z') &&
         !(c >= 'a' && c <= 'z');
}
bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

/// The characters of a general category ("L", "Nd") that ICU knows and PCRE2, whose Unicode may be older,
/// does not, as parts of a class.
std::string newer_characters(const std::string& category) {
  if (category.size() > 2) return "";
  static std::mutex mutex;
  static std::map<std::string, std::string> known;
  const std::lock_guard lock(mutex);
  const auto [entry, fresh] = known.try_emplace(category);
  if (!fresh) return entry->second;
  char version[24] = {};
  pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, version);
  UErrorCode code = U_ZERO_ERROR;
  const std::string pattern =
      cat("[[:gc=", category, ":]-[:age=", std::string_view(version).substr(0, 4), ":]]");
  const icu::UnicodeSet set(icu::UnicodeString::fromUTF8(pattern), code);
  if (U_FAILURE(code)) return "";  // no such category: PCRE2 will say so
  for (int32_t i = 0; i < set.getRangeCount(); ++i) {
    char range[40];
    std::snprintf(range, sizeof range, "\\x{%X}-\\x{%X}", static_cast<unsigned>(set.getRangeStart(i)),
                  static_cast<unsigned>(set.getRangeEnd(i)));
    entry->second += range;
  }
  return entry->second;
}

class Translator {
 public:
  Translator(std::string_view pattern, const std::string& origin) : in_(pattern), origin_(origin) {}

  std::string run() {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\') {
        begin_atom();
        escape(false);
      } else if (c == '[') {
        begin_atom();
        out_ += '[';
        ++at_;
        character_class(0);
        out_ += ']';
      } else if (c == '(') {
        group();
      } else if (c == ')') {
        close_group();
      } else if (c == '{' && interval()) {
        continue;
      } else {
        if (c != '*' && c != '+' && c != '?') begin_atom();
        copy_character();
      }
    }
    return out_;
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw Error(cat(origin_, ": regular expression \"", in_, "\": ", what, " at byte ", at_));
  }
  char peek(size_t ahead) const { return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0'; }
  void begin_atom() { atom_ = out_.size(); }
  void copy_character() {
    const int n = std::max(1, utf8_length(in_.substr(at_)));
    out_ += in_.substr(at_, static_cast<size_t>(n));
    at_ += static_cast<size_t>(n);
  }

  void group() {
    groups_.push_back(out_.size());
    if (groups_.size() > 200) refuse("groups nest too deeply");
    if (peek(1) != '?') {
      out_ += "(?:";  // nothing refers to a group
      ++at_;
      return;
    }
    for (const std::string_view known : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?-i:"}) {
      if (!in_.substr(at_).starts_with(known)) continue;
      out_ += known;
      at_ += known.size();
      return;
    }
    if (in_.substr(at_).starts_with("(?i)")) {
      out_ += "(?i)";
      at_ += 4;
      groups_.pop_back();
      return;
    }
    refuse("a group of a kind that is not supported");
  }
  void close_group() {
    if (groups_.empty()) refuse("an unmatched \")\"");
    atom_ = groups_.back();
    groups_.pop_back();
    out_ += ')';
    ++at_;
  }

  /// {n,m} and what follows it: a + is another repetition, where PCRE2 would take it for "give nothing back".
  bool interval() {
    size_t end = at_ + 1;
    while (end < in_.size() && ((in_[end] >= '0' && in_[end] <= '9') || in_[end] == ',')) ++end;
    if (end >= in_.size() || in_[end] != '}' || end == at_ + 1 || in_[at_ + 1] == ',') {
      begin_atom();
      out_ += "\\{";
      ++at_;
      return true;
    }
    const std::string_view text = in_.substr(at_, end + 1 - at_);
    const char next = end + 1 < in_.size() ? in_[end + 1] : '\0';
    if (next == '?' && text.find(',') == std::string_view::npos) refuse("{n}? is not supported");
    out_ += text;
    at_ = end + 1;
    if (next == '+') {
      out_.insert(atom_, "(?:");
      out_ += ")";
    }
    return true;
  }

  /// Up to and with the "]"; a class inside another is joined to it.
  void character_class(int depth) {
    if (depth > 8) refuse("classes nest too deeply");
    if (peek(0) == '^') {
      if (depth > 0) refuse("a negated class inside a class is not supported");
      out_ += '^';
      ++at_;
    }
    if (peek(0) == ']') {
      out_ += "\\]";
      ++at_;
    }
    while (true) {
      if (at_ >= in_.size()) refuse("a class without its \"]\"");
      const char c = in_[at_];
      if (c == ']') {
        ++at_;
        return;
      }
      if (c == '[') {
        if (peek(1) == ':') refuse("[: :] is not supported");
        ++at_;
        character_class(depth + 1);
      } else if (c == '&' && peek(1) == '&') {
        refuse("&& in a class is not supported");
      } else if (c == '\\') {
        escape(true);
      } else {
        copy_character();
      }
    }
  }

  void put_class(const std::string& content, bool negated, bool in_class) {
    if (in_class && negated) refuse("a negated class inside a class is not supported");
    out_ += in_class ? content : cat("[", negated ? "^" : "", content, "]");
  }

  void escape(bool in_class) {
    const char c = peek(1);
    at_ += 2;
    switch (c) {
      case 's':
        return put_class(kSpace, false, in_class);
      case 'S':
        return put_class(in_class ? kNoSpace : kSpace, !in_class, in_class);
      case 'd':
        out_ += "\\p{Nd}";
        return;
      case 'D':
        out_ += "\\P{Nd}";
        return;
      case 'w':
      case 'W':
        return put_class(kWord, c == 'W', in_class);
      case 'b':
      case 'B':
        if (in_class) refuse("\\b in a class is not supported");
        return word_boundary(c == 'B');
      case 'p':
      case 'P':
        return property(c, in_class);
      case 'x':
      case 'u':
        return code_point(c);
      case 'r':
      case 'n':
      case 't':
      case 'f':
      case 'e':
        out_ += '\\';
        out_ += c;
        return;
      case 'v':
        out_ += "\\x0B";
        return;
      default:
        if (c == '\n' || c == ' ') {
          out_ += c;
        } else if (is_punctuation(c) || (!in_class && (c == 'A' || c == 'z'))) {
          out_ += '\\';
          out_ += c;
        } else {
          at_ -= 2;
          refuse("an escape that is not supported");
        }
    }
  }

  void word_boundary(bool negated) {
    const std::string word = cat("[", kWord, "]");
    const std::string before = cat("(?<=", word, ")"), no_before = cat("(?<!", word, ")");
    const std::string after = cat("(?=", word, ")"), no_after = cat("(?!", word, ")");
    out_ += negated ? cat("(?:", before, after, "|", no_before, no_after, ")")
                    : cat("(?:", before, no_after, "|", no_before, after, ")");
  }
  void property(char c, bool in_class) {
    const size_t end = in_.find('}', at_);
    if (peek(0) != '{' || end == std::string_view::npos) refuse("a property without its name");
    const std::string text(in_.substr(at_, end + 1 - at_)),
        newer = newer_characters(text.substr(1, text.size() - 2));
    at_ = end + 1;
    if (newer.empty() || (in_class && c == 'P')) {
      out_ += cat("\\", c, text);
    } else {
      put_class(cat("\\p", text, newer), c == 'P', in_class);
    }
  }
  void code_point(char kind) {
    std::string digits;
    if (kind == 'x' && peek(0) == '{') {
      for (++at_; is_hex(peek(0)); ++at_) digits += peek(0);
      if (peek(0) != '}') refuse("\\x{ without its }");
      ++at_;
    } else {
      const size_t most = kind == 'x' ? 2 : 4;
      for (; digits.size() < most && is_hex(peek(0)); ++at_) digits += peek(0);
      // A byte of its own from 80 on, which well-formed text does not have.
      if (digits.size() < most || (kind == 'x' && digits[0] > '7')) refuse("an escape that is not supported");
    }
    if (digits.empty() || digits.size() > 8) refuse("\\x{ } without a code point");
    out_ += cat("\\x{", digits, "}");
  }

  std::string_view in_;
  const std::string& origin_;
  std::string out_;
  size_t at_ = 0, atom_ = 0;    // atom_: where the last thing that can be repeated starts in out_
  std::vector<size_t> groups_;  // where the open ones start in out_
};
}  // namespace

std::string pcre_of_oniguruma(std::string_view pattern, const std::string& origin) {
  return Translator(pattern, origin).run();
}

}  // namespace llmtool
