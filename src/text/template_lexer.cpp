#include "text/template_lexer.h"

#include <algorithm>
#include <array>

#include "llmtool/core/error.h"
#include "text/template_unicode.h"
#include "text/template_value.h"

namespace llmtool::jinja {

namespace {
bool digit(char c, int base = 10) {
  if (base <= 10) return c >= '0' && c < '0' + base;
  return digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

/// All newlines as \n, the last one dropped.
std::string normalized(std::string_view source) {
  std::string out;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
      continue;
    }
    out += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  Lexer(std::string_view source, int& line) : text_(normalized(source)), line_(line) {}

  std::vector<Token> run() {
    while (at_ < text_.size()) root();
    add(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  void add(TokenKind kind, std::string text) { tokens_.push_back({kind, line_, std::move(text)}); }
  bool at(std::string_view s) const { return std::string_view(text_).substr(at_).starts_with(s); }
  void advance_to(size_t to) {
    line_ += static_cast<int>(std::count(text_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         text_.begin() + static_cast<std::ptrdiff_t>(to), '\n'));
    if (to > at_) line_starting_ = text_[to - 1] == '\n';
    at_ = to;
  }
  size_t behind_spaces(size_t from) const {
    const std::string_view rest = std::string_view(text_).substr(from);
    return text_.size() - strip(rest, true, false).size();
  }

  /// The text before a tag whose sign is - or + or none.
  void data(size_t end, char sign, bool output) {
    std::string_view before = std::string_view(text_).substr(at_, end - at_);
    if (sign == '-') {
      before = strip(before, false, true);
    } else if (sign != '+' && !output) {
      const size_t newline = before.rfind('\n');
      const size_t start = newline == before.npos ? 0 : newline + 1;
      const bool blank = strip(before.substr(start), true, false).empty();
      if (blank && (start > 0 || line_starting_)) before = before.substr(0, start);
    }
    if (!before.empty()) add(TokenKind::kData, std::string(before));
    advance_to(end);
  }

  /// Where a tag named `word` that begins here ends its opening; npos where there is none.
  size_t raw_word(size_t from, std::string_view word) const {
    size_t i = from + 2;
    if (i < text_.size() && (text_[i] == '-' || text_[i] == '+')) ++i;
    i = behind_spaces(i);
    if (!std::string_view(text_).substr(i).starts_with(word)) return std::string::npos;
    return behind_spaces(i + word.size());
  }
  char sign_at(size_t from) const {
    return from < text_.size() && (text_[from] == '-' || text_[from] == '+') ? text_[from] : ' ';
  }
  /// Where the end tag at `i` (with -, + or nothing before it) ends; npos where there is none.
  size_t closing(size_t i, std::string_view tag, bool plus, bool trim) const {
    const std::string_view rest = std::string_view(text_).substr(std::min(i, text_.size()));
    if (rest.starts_with("-") && rest.substr(1).starts_with(tag)) return behind_spaces(i + 1 + tag.size());
    if (plus && rest.starts_with("+") && rest.substr(1).starts_with(tag)) return i + 1 + tag.size();
    if (!rest.starts_with(tag)) return std::string::npos;
    i += tag.size();
    return trim && i < text_.size() && text_[i] == '\n' ? i + 1 : i;
  }

  void root() {
    size_t tag = at_;
    for (;; ++tag) {
      tag = text_.find('{', tag);
      if (tag == std::string::npos || tag + 1 >= text_.size()) {
        add(TokenKind::kData, text_.substr(at_));
        advance_to(text_.size());
        return;
      }
      if (text_[tag + 1] == '{' || text_[tag + 1] == '%' || text_[tag + 1] == '#') break;
    }
    const char kind = text_[tag + 1];
    const char sign = sign_at(tag + 2);
    if (kind == '%') {
      const size_t word = raw_word(tag, "raw");
      const size_t end = word == std::string::npos ? word : closing(word, "%}", false, false);
      if (end != std::string::npos) {
        data(tag, sign, false);
        advance_to(end);
        return raw();
      }
    }
    data(tag, sign, kind == '{');
    advance_to(tag + 2 + (sign == ' ' ? 0 : 1));
    if (kind == '#') return comment();
    add(kind == '{' ? TokenKind::kOutputBegin : TokenKind::kBlockBegin, kind == '{' ? "{{" : "{%");
    inside(kind == '{');
  }

  void comment() {
    for (size_t end = at_; end < text_.size(); ++end) {
      if (text_[end] != '-' && text_[end] != '+' && text_[end] != '#') continue;
      const size_t after = closing(end, "#}", true, true);
      if (after != std::string::npos) return advance_to(after);
    }
    fail("Missing end of comment tag");
  }

  void raw() {
    for (size_t tag = at_; (tag = text_.find("{%", tag)) != std::string::npos; ++tag) {
      const size_t word = raw_word(tag, "endraw");
      const size_t end = word == std::string::npos ? word : closing(word, "%}", true, true);
      if (end == std::string::npos) continue;
      data(tag, sign_at(tag + 2), false);
      return advance_to(end);
    }
    fail("Missing end of raw directive");
  }

  void inside(bool output) {
    std::string open;  // brackets
    while (at_ < text_.size()) {
      if (open.empty()) {
        const size_t end = output ? closing(at_, "}}", false, false) : closing(at_, "%}", true, true);
        if (end != std::string::npos) {
          add(output ? TokenKind::kOutputEnd : TokenKind::kBlockEnd, output ? "}}" : "%}");
          return advance_to(end);
        }
      }
      token(open);
    }
    // Where the text ends within a tag, the parser finds what it lacks.
  }

  void token(std::string& open) {
    size_t next = at_;
    const char32_t c = unicode::next(text_, next);
    if (is_space(c)) return advance_to(behind_spaces(at_));
    if (c < 0x80 && digit(static_cast<char>(c))) return number();
    if (is_word(c)) return name();
    if (c == '\'' || c == '"') return string(static_cast<char>(c));
    operation(open);
  }

  /// Behind digits with single underscores between them.
  size_t digits(size_t i, int base = 10) const {
    while (i < text_.size() && digit(text_[i], base)) {
      ++i;
      if (i + 1 < text_.size() && text_[i] == '_' && digit(text_[i + 1], base)) ++i;
    }
    return i;
  }

  void number() {
    const size_t whole = digits(at_);
    const auto char_at = [&](size_t i) { return i < text_.size() ? text_[i] : '\0'; };
    size_t end = whole;
    if (char_at(end) == '.' && digit(char_at(end + 1))) end = digits(end + 1);
    if ((char_at(end) | 0x20) == 'e') {
      const size_t exponent = end + 1 + (char_at(end + 1) == '+' || char_at(end + 1) == '-');
      if (digit(char_at(exponent))) end = digits(exponent);
    }
    const bool after_point = at_ > 0 && text_[at_ - 1] == '.';
    if (end != whole && !after_point) return number_token(TokenKind::kFloat, end);
    const char letter = static_cast<char>(char_at(at_ + 1) | 0x20);
    const int base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
    if (text_[at_] == '0' && base) {
      const size_t from = at_ + 2 + (char_at(at_ + 2) == '_');
      if (digit(char_at(from), base)) return number_token(TokenKind::kInteger, digits(from, base));
    }
    end = whole;
    if (text_[at_] == '0') {  // nothing but zeros
      end = at_ + 1;
      while (char_at(end) == '0' || (char_at(end) == '_' && char_at(end + 1) == '0')) ++end;
    }
    number_token(TokenKind::kInteger, end);
  }
  void number_token(TokenKind kind, size_t end) {
    std::string text = text_.substr(at_, end - at_);
    std::erase(text, '_');
    add(kind, std::move(text));
    advance_to(end);
  }

  void name() {
    size_t end = at_;
    bool valid = true;
    for (size_t next = end; next < text_.size(); end = next) {
      const char32_t c = unicode::next(text_, next);
      if (!is_word(c)) break;
      valid = valid && (end == at_ ? is_identifier_start(c) : is_identifier_part(c));
    }
    if (!valid) fail("Invalid character in identifier");
    add(TokenKind::kName, text_.substr(at_, end - at_));
    advance_to(end);
  }

  void string(char quote) {
    size_t end = at_ + 1;
    while (end < text_.size() && text_[end] != quote) end += text_[end] == '\\' ? 2 : 1;
    if (end >= text_.size()) fail(cat("unexpected character ", quote, ": a string without an end"));
    add(TokenKind::kString, unescaped(std::string_view(text_).substr(at_ + 1, end - at_ - 1)));
    advance_to(end + 1);
  }

  static char32_t hex_escape(std::string_view text, size_t& i, size_t count) {
    char32_t c = 0;
    for (size_t n = 0; n < count; ++n, ++i) {
      if (i >= text.size() || !digit(text[i], 16)) fail("truncated escape in a string");
      c = c * 16 + static_cast<char32_t>(digit(text[i]) ? text[i] - '0' : (text[i] | 0x20) - 'a' + 10);
    }
    if (c > 0x10FFFF) fail("illegal Unicode character in a string");
    if (c >= 0xD800 && c < 0xE000) fail("half of a surrogate pair in a string is not supported");
    return c;
  }

  /// Python's unicode-escape.
  static std::string unescaped(std::string_view text) {
    std::string out;
    for (size_t i = 0; i < text.size();) {
      if (text[i] != '\\' || i + 1 >= text.size()) {
        out += text[i++];
        continue;
      }
      const char c = text[++i];
      constexpr std::string_view kLetters = "\\'\"abfnrtv", kMeaning = "\\'\"\a\b\f\n\r\t\v";
      if (const size_t plain = kLetters.find(c); plain != kLetters.npos) {
        out += kMeaning[plain];
        ++i;
      } else if (c == '\n') {
        ++i;
      } else if (digit(c, 8)) {
        char32_t value = 0;
        for (int n = 0; n < 3 && i < text.size() && digit(text[i], 8); ++n)
          value = value * 8 + static_cast<char32_t>(text[i++] - '0');
        unicode::append(out, value);
      } else if (c == 'x' || c == 'u' || c == 'U') {
        unicode::append(out, hex_escape(text, ++i, c == 'x' ? 2 : c == 'u' ? 4 : 8));
      } else if (c == 'N') {
        fail("\\N in a string is not supported");
      } else {
        escaped_other(out, text, i);
      }
    }
    return out;
  }
  /// The backslash stays; Python has turned a character behind it that is not ASCII into an escape by then.
  static void escaped_other(std::string& out, std::string_view text, size_t& i) {
    out += '\\';
    const char32_t c = unicode::next(text, i);
    if (c < 0x80) {
      out += static_cast<char>(c);
      return;
    }
    char buffer[16];
    std::snprintf(buffer, sizeof buffer,
                  c < 0x100     ? "x%02x"
                  : c < 0x10000 ? "u%04x"
                                : "U%08x",
                  static_cast<unsigned>(c));
    out += buffer;
  }

  void operation(std::string& open) {
    static constexpr std::array<std::string_view, 26> kOperators = {
        "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    const auto found = std::find_if(kOperators.begin(), kOperators.end(), [&](auto op) { return at(op); });
    if (found == kOperators.end()) {
      size_t next = at_;
      fail(cat("unexpected char ", string_repr(utf8(unicode::next(text_, next)))));
    }
    const char c = (*found)[0];
    constexpr std::string_view kOpening = "([{", kClosing = ")]}";
    if (kOpening.find(c) != std::string_view::npos) {
      open += kClosing[kOpening.find(c)];
    } else if (kClosing.find(c) != std::string_view::npos) {
      if (open.empty()) fail(cat("unexpected '", c, "'"));
      if (open.back() != c) fail(cat("unexpected '", c, "', expected '", open.back(), "'"));
      open.pop_back();
    }
    add(TokenKind::kOperator, std::string(*found));
    advance_to(at_ + found->size());
  }

  std::string text_;
  int& line_;
  size_t at_ = 0;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};
}  // namespace

std::vector<Token> tokenize(std::string_view source, int& line) { return Lexer(source, line).run(); }

}  // namespace llmtool::jinja
