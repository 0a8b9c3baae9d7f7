#include "grammar/regex_parser.h"

#include <optional>

#include "grammar/regex_classes.h"
#include "llmtool/core/error.h"
#include "text/unicode.h"

namespace llmtool {

namespace {
using Kind = Expression::Kind;
constexpr int kMaxNesting = 250;
constexpr int64_t kMaxCount = 20000;

class RegexParser {
 public:
  RegexParser(std::string_view regex, const std::string& origin) : origin_(origin) {
    if (!unicode::is_well_formed(regex)) throw UsageError(cat(origin, ": expected UTF-8, found other bytes"));
    for (size_t at = 0; at < regex.size();) text_ += unicode::next(regex, at);
  }

  Expression parse() {
    Expression e = alternatives();
    if (at_ < text_.size()) fail(at_, "expected a group that ends here, found ) without (");
    return e;
  }

 private:
  [[noreturn]] void fail(size_t at, const std::string& what) const {
    throw UsageError(cat(origin_, ": character ", at + 1, ": ", what));
  }
  bool more() const { return at_ < text_.size(); }
  char32_t peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : 0; }
  bool take(std::u32string_view word) {
    if (text_.compare(at_, word.size(), word) != 0) return false;
    at_ += word.size();
    return true;
  }

  Expression alternatives() {
    if (++nesting_ > kMaxNesting) fail(at_, cat("groups are nested more than ", kMaxNesting, " deep"));
    std::vector<Expression> list;
    do {
      list.push_back(sequence());
    } while (take(U"|"));
    --nesting_;
    return Expression::choice(std::move(list));
  }

  Expression sequence() {
    std::vector<Expression> parts;
    while (more() && peek() != '|' && peek() != ')') {
      const size_t began = at_;
      Expression part = atom();
      int64_t least = 0, most = 0;
      if (quantifier(least, most)) {
        if (part.kind == Kind::begin || part.kind == Kind::end) fail(began, "nothing that could be repeated");
        part = Expression::repeat(std::move(part), least, most);
      }
      parts.push_back(std::move(part));
    }
    return Expression::sequence(std::move(parts));
  }

  /// Whether a quantifier follows. Lazy ones find the same texts; possessive ones would not.
  bool quantifier(int64_t& least, int64_t& most) {
    if (!one_quantifier(least, most)) return false;
    take(U"?");
    if (peek() == '+') fail(at_, "possessive quantifiers are not supported");
    int64_t ignored = 0;
    const size_t at = at_;
    if (one_quantifier(ignored, ignored)) fail(at, "nothing that could be repeated");
    return true;
  }
  bool one_quantifier(int64_t& least, int64_t& most) {
    const auto set = [&](int64_t low, int64_t high) {
      least = low;
      most = high;
      return true;
    };
    if (take(U"*")) return set(0, Expression::kUnbounded);
    if (take(U"+")) return set(1, Expression::kUnbounded);
    if (take(U"?")) return set(0, 1);
    const size_t began = at_;
    if (!take(U"{")) return false;
    const std::optional<int64_t> low = number();
    std::optional<int64_t> high = low;
    if (low && take(U",")) high = peek() == '}' ? Expression::kUnbounded : number();
    if (!low || !high || !take(U"}")) {  // a brace as it is
      if (!low && peek() == ',') fail(began, "expected the least number of times; write {0,n}");
      at_ = began;
      return false;
    }
    if (*high != Expression::kUnbounded && *high < *low)
      fail(began, cat("expected at least ", *low, " as the most, found ", *high));
    return set(*low, *high);
  }
  std::optional<int64_t> number() {
    const size_t began = at_;
    int64_t n = 0;
    for (; peek() >= '0' && peek() <= '9'; ++at_) {
      n = n * 10 + static_cast<int64_t>(peek() - '0');
      if (n > kMaxCount) fail(began, cat("expected at most ", kMaxCount, " times"));
    }
    return at_ == began ? std::nullopt : std::optional(n);
  }

  Expression atom() {
    const size_t began = at_;
    const char32_t c = text_[at_++];
    switch (c) {
      case '^':
        return Expression::at(Kind::begin);
      case '$':
        return Expression::at(Kind::end);
      case '.':
        return Expression::characters(regex_class('.'));
      case '(':
        return group(began);
      case '[':
        return Expression::characters(bracketed(began));
      case '\\':
        if (peek() == 'b' || peek() == 'B') fail(began, "word boundaries are not supported");
        if (peek() == 'k' || (peek() >= '1' && peek() <= '9')) fail(began, "backreferences are not regular");
        return Expression::characters(escape(began));
      case '*':
      case '+':
      case '?':
        fail(began, "nothing that could be repeated");
      default: {
        --at_;
        int64_t ignored = 0;
        if (c == '{' && one_quantifier(ignored, ignored)) fail(began, "nothing that could be repeated");
        ++at_;
        return Expression::characters({c, c});
      }
    }
  }

  Expression group(size_t began) {
    if (take(U"?")) {
      const bool named = take(U"P<") || (peek() == '<' && peek(1) != '=' && peek(1) != '!' && take(U"<"));
      if (named) {
        while (more() && peek() != '>') ++at_;
        if (!take(U">")) fail(began, "expected a name and >");
      } else if (peek() == '=' || peek() == '!' || peek() == '<') {
        fail(began, "looking ahead or behind is not supported");
      } else if (!take(U":")) {
        fail(began, "expected (?: or (?<name>; flags and atomic groups are not supported");
      }
    }
    Expression inner = alternatives();
    if (!take(U")")) fail(began, "expected ) at the group's end, found none");
    return inner;
  }

  CodePoints bracketed(size_t began) {
    const bool negated = take(U"^");
    CodePoints set;
    while (peek() != ']' || !more()) {
      if (!more()) fail(began, "expected ] at the end of the class, found none");
      if (peek() == '[' && (peek(1) == ':' || peek(1) == '.' || peek(1) == '='))
        fail(at_, "POSIX classes are not supported; write \\p{...} or the range");
      const size_t at = at_;
      const CodePoints first = class_member();
      if (peek() != '-' || peek(1) == ']' || at_ + 1 >= text_.size()) {
        set.add(first);
        continue;
      }
      ++at_;
      const CodePoints last = class_member();
      const auto single = [](const CodePoints& s) {
        return s.ranges().size() == 1 && s.ranges()[0].first == s.ranges()[0].second;
      };
      if (!single(first) || !single(last)) fail(at, "expected a character at both ends of the range");
      const char32_t low = first.ranges()[0].first, high = last.ranges()[0].first;
      if (low > high) fail(at, "expected a range from the lower character to the higher");
      set.add(low, high);
    }
    ++at_;
    return negated ? set.complement() : set;
  }
  CodePoints class_member() {
    const size_t began = at_;
    const char32_t c = text_[at_++];
    if (c != '\\') return {c, c};
    if (peek() == 'b') {
      ++at_;
      return {'\b', '\b'};
    }
    return escape(began);
  }

  /// What stands behind a backslash.
  CodePoints escape(size_t began) {
    if (!more()) fail(began, "expected a character behind \\, found the end");
    const char32_t c = text_[at_++];
    const auto one = [](char32_t code) { return CodePoints(code, code); };
    switch (c) {
      case 'd':
      case 'w':
      case 's':
        return regex_class(c);
      case 'D':
      case 'W':
      case 'S':
        return regex_class(c - 'A' + 'a').complement();
      case 'p':
        return property(began);
      case 'P':
        return property(began).complement();
      case 't':
        return one('\t');
      case 'n':
        return one('\n');
      case 'r':
        return one('\r');
      case 'f':
        return one('\f');
      case 'v':
        return one('\v');
      case '0':
        if (peek() >= '0' && peek() <= '9') fail(began, "octal escapes are not supported; write \\xHH");
        return one(0);
      case 'c': {
        const char32_t letter = peek() | 0x20;
        if (letter < 'a' || letter > 'z') fail(began, "expected a letter behind \\c");
        return one(text_[at_++] & 0x1F);
      }
      case 'x':
        return one(peek() == '{' ? braced(began) : hexadecimal(2, began));
      case 'u':
        return one(peek() == '{' ? braced(began) : utf16(began));
      default:
        break;
    }
    const bool letter = c < 0x80 && (std::isalnum(static_cast<int>(c)) != 0);
    if (letter) fail(began, cat("\\", static_cast<char>(c), " has no meaning here"));
    return one(c);
  }

  CodePoints property(size_t began) {
    std::string name;
    if (take(U"{")) {
      while (more() && peek() != '}') unicode::append(name, text_[at_++]);
      if (!take(U"}")) fail(began, "expected } behind the property's name");
    } else if (more()) {
      unicode::append(name, text_[at_++]);
    }
    const auto set = unicode_property(name);
    if (!set) fail(began, cat("Unicode has no property \"", name, "\""));
    return *set;
  }
  char32_t hexadecimal(int digits, size_t began) {
    char32_t value = 0;
    for (int i = 0; i < digits; ++i) {
      const char32_t c = peek(), low = c | 0x20;
      const bool digit = c >= '0' && c <= '9';
      if (!digit && !(low >= 'a' && low <= 'f')) fail(began, cat("expected ", digits, " hexadecimal digits"));
      value = value * 16 + (digit ? c - '0' : low - 'a' + 10);
      ++at_;
    }
    return value;
  }
  char32_t braced(size_t began) {
    ++at_;
    char32_t value = 0;
    do {
      value = value * 16 + hexadecimal(1, began);
      if (value > CodePoints::kLast) fail(began, "expected a code point of at most 10FFFF");
    } while (peek() != '}');
    ++at_;
    return scalar(value, began);
  }
  char32_t utf16(size_t began) {
    const char32_t high = hexadecimal(4, began);
    if (high < 0xD800 || high > 0xDBFF || !take(U"\\u")) return scalar(high, began);
    const char32_t low = hexadecimal(4, began);
    if (low < 0xDC00 || low > 0xDFFF) fail(began, "expected a character, found half of a surrogate pair");
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
  }
  char32_t scalar(char32_t c, size_t began) const {
    if (c >= 0xD800 && c <= 0xDFFF) fail(began, "expected a character, found half of a surrogate pair");
    return c;
  }

  const std::string& origin_;
  std::u32string text_;
  size_t at_ = 0;
  int nesting_ = 0;
};
}  // namespace

Expression parse_regex(std::string_view regex, const std::string& origin) {
  return RegexParser(regex, origin).parse();
}

}  // namespace llmtool
