#include "llmtool/grammar/gbnf.h"

#include <algorithm>
#include <map>
#include <optional>

#include "grammar/stack_machine.h"
#include "llmtool/core/error.h"
#include "text/unicode.h"

namespace llmtool {

namespace {
constexpr int kMaxNesting = 250, kMaxRepetitions = 8;
constexpr int64_t kMaxCount = 20000;

bool is_name(char32_t c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

class GbnfParser {
 public:
  GbnfParser(std::string_view source, const std::string& origin) : origin_(origin) {
    if (!unicode::is_well_formed(source))
      throw UsageError(cat(origin, ": expected UTF-8, found other bytes"));
    for (size_t at = 0; at < source.size();) text_ += unicode::next(source, at);
  }

  /// The rules, root first.
  std::vector<NamedRule> parse() {
    rule_of("root");
    for (skip(true); more(); skip(true)) rule();
    for (size_t r = 0; r < rules_.size(); ++r) {
      if (defined_[r]) continue;
      if (r == 0) throw UsageError(cat(origin_, ": expected a rule \"root\", found none"));
      fail(used_[r], cat("expected a rule \"", rules_[r].name, "\", found none"));
    }
    return std::move(rules_);
  }

 private:
  [[noreturn]] void fail(size_t at, const std::string& what) const {
    throw UsageError(cat(origin_, ": ", place(at), ": ", what));
  }
  std::string place(size_t at) const {
    // Places are asked for in order, mostly: lines are counted once.
    const size_t end = std::min(at, text_.size()), known = end < counted_ ? 0 : counted_;
    const auto line =
        (known == 0 ? 0 : lines_) + std::count(text_.begin() + static_cast<ptrdiff_t>(known),
                                               text_.begin() + static_cast<ptrdiff_t>(end), U'\n');
    counted_ = end;
    lines_ = line;
    const size_t before = at == 0 ? std::u32string::npos : text_.rfind(U'\n', at - 1);
    return cat("line ", line + 1, ", column ", before == std::u32string::npos ? at + 1 : at - before);
  }
  std::string found() const {
    if (!more()) return "found the end";
    if (text_[at_] == '\n' || text_[at_] == '\r') return "found the end of the line";
    std::string c;
    unicode::append(c, text_[at_]);
    return cat("found ", c);
  }
  bool more() const { return at_ < text_.size(); }
  char32_t peek() const { return more() ? text_[at_] : 0; }
  bool take(std::u32string_view word) {
    if (text_.compare(at_, word.size(), word) != 0) return false;
    at_ += word.size();
    return true;
  }
  void expect(std::u32string_view word, const char* name) {
    if (!take(word)) fail(at_, cat("expected ", name, ", ", found()));
  }
  /// Passes over blanks and comments, over line breaks only where `lines`.
  void skip(bool lines) {
    for (; more(); ++at_) {
      if (peek() == '#') {
        while (more() && peek() != '\n' && peek() != '\r') ++at_;
      }
      const bool blank = peek() == ' ' || peek() == '\t';
      const bool line = peek() == '\n' || peek() == '\r';
      if (!blank && !(lines && line)) return;
    }
  }

  uint32_t rule_of(const std::string& name) {
    const auto [entry, is_new] = numbers_.try_emplace(name, static_cast<uint32_t>(rules_.size()));
    if (is_new) {
      rules_.push_back({name, "", {}});
      defined_.push_back(false);
      used_.push_back(at_);
    }
    return entry->second;
  }
  std::string name() {
    std::string text;
    while (is_name(peek())) text += static_cast<char>(text_[at_++]);
    if (text.empty()) fail(at_, cat("expected a rule's name, ", found()));
    return text;
  }

  void rule() {
    const size_t began = at_;
    const uint32_t number = rule_of(name());
    if (defined_[number]) fail(began, cat("expected one rule \"", rules_[number].name, "\", found another"));
    defined_[number] = true;
    rules_[number].place = place(began);
    skip(false);
    expect(U"::=", "::=");
    skip(true);
    Expression e = alternatives(false);
    rules_[number].expression = std::move(e);
    if (more() && peek() != '\n' && peek() != '\r') fail(at_, cat("expected the end of the rule, ", found()));
  }

  Expression alternatives(bool nested) {
    if (++nesting_ > kMaxNesting) fail(at_, cat("groups are nested more than ", kMaxNesting, " deep"));
    std::vector<Expression> list;
    do {
      list.push_back(sequence(nested));
    } while (next_alternative(nested));
    --nesting_;
    return Expression::choice(std::move(list));
  }
  /// A line that begins with | goes on with the rule.
  bool next_alternative(bool nested) {
    const size_t began = at_;
    skip(true);
    if (take(U"|")) {
      skip(true);
      return true;
    }
    if (!nested) at_ = began;
    return false;
  }

  Expression sequence(bool nested) {
    std::vector<Expression> parts;
    while (std::optional<Expression> part = symbol()) {
      skip(nested);
      repetitions(*part, nested);
      parts.push_back(std::move(*part));
    }
    return Expression::sequence(std::move(parts));
  }

  /// Nothing where no symbol begins.
  std::optional<Expression> symbol() {
    const size_t began = at_;
    if (take(U"\"")) return literal(began);
    if (take(U"[")) return Expression::characters(bracketed(began));
    if (take(U".")) return Expression::characters({0, CodePoints::kLast});
    if (take(U"(")) {
      skip(true);
      Expression inner = alternatives(true);
      if (!take(U")")) fail(at_, cat("expected ) for the ( at ", place(began), ", ", found()));
      return inner;
    }
    if (peek() == '<' || peek() == '!') fail(at_, "references to tokens (<...>) are not supported");
    if (!is_name(peek())) return std::nullopt;
    return Expression::reference(rule_of(name()));
  }

  void repetitions(Expression& part, bool nested) {
    int64_t least = 0, most = 0;
    while (repetition(least, most)) {
      part = Expression::repeat(std::move(part), least, most);
      if (++depth_ > kMaxRepetitions)
        fail(at_, cat("a symbol is repeated more than ", kMaxRepetitions, " times over"));
      skip(nested);
    }
    depth_ = 0;
  }
  bool repetition(int64_t& least, int64_t& most) {
    least = peek() == '+' ? 1 : 0;
    most = peek() == '?' ? 1 : Expression::kUnbounded;
    if (take(U"*") || take(U"+") || take(U"?")) return true;
    const size_t began = at_;
    if (!take(U"{")) return false;
    skip(false);
    least = most = count();
    skip(false);
    if (take(U",")) {
      skip(false);
      most = peek() == '}' ? Expression::kUnbounded : count();
      skip(false);
    }
    expect(U"}", "}");
    if (most != Expression::kUnbounded && most < least) {
      fail(began, cat("expected at least ", least, " as the most, found ", most));
    }
    return true;
  }
  int64_t count() {
    const size_t began = at_;
    int64_t n = 0;
    for (; peek() >= '0' && peek() <= '9'; ++at_) {
      n = n * 10 + static_cast<int64_t>(peek() - '0');
      if (n > kMaxCount) fail(began, cat("expected at most ", kMaxCount, " times"));
    }
    if (at_ == began) fail(at_, cat("expected a number, ", found()));
    return n;
  }

  Expression literal(size_t began) {
    std::vector<Expression> parts;
    while (peek() != '"' || !more()) {
      if (!more()) fail(began, "expected \" at the end of the literal, found none");
      const char32_t c = character();
      parts.push_back(Expression::characters({c, c}));
    }
    ++at_;
    return Expression::sequence(std::move(parts));
  }

  CodePoints bracketed(size_t began) {
    const bool negated = take(U"^");
    CodePoints set;
    while (peek() != ']' || !more()) {
      if (!more()) fail(began, "expected ] at the end of the class, found none");
      const size_t at = at_;
      const char32_t first = character();
      char32_t last = first;
      if (peek() == '-' && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
        ++at_;
        last = character();
      }
      if (last < first) fail(at, "expected a range from the lower character to the higher");
      set.add(first, last);
    }
    ++at_;
    if (set.empty()) fail(began, "expected a character in the class, found none");
    return negated ? set.complement() : set;
  }

  char32_t character() {
    const size_t began = at_;
    const char32_t c = text_[at_++];
    if (c != '\\') return c;
    if (!more()) fail(began, "expected a character behind \\, found the end");
    switch (const char32_t e = text_[at_++]) {
      case 'x':
        return hexadecimal(2, began);
      case 'u':
        return hexadecimal(4, began);
      case 'U':
        return hexadecimal(8, began);
      case 't':
        return '\t';
      case 'r':
        return '\r';
      case 'n':
        return '\n';
      default: {
        const bool punctuation = e > ' ' && e < 0x7F && !is_name(e);
        if (!punctuation && e != '-')
          fail(began, "expected one of \\x \\u \\U \\t \\r \\n \\\\ \\\" \\[ \\], found another");
        return e;
      }
    }
  }
  char32_t hexadecimal(int digits, size_t began) {
    uint64_t value = 0;
    for (int i = 0; i < digits; ++i, ++at_) {
      const char32_t c = peek(), low = c | 0x20;
      const bool digit = c >= '0' && c <= '9';
      if (!digit && !(low >= 'a' && low <= 'f'))
        fail(began, cat("expected ", digits, " hexadecimal digits, ", found()));
      value = value * 16 + (digit ? c - '0' : low - 'a' + 10);
    }
    const bool is_character = value <= CodePoints::kLast && !(value >= 0xD800 && value <= 0xDFFF);
    if (!is_character) fail(began, "expected a code point, found one that is none");
    return static_cast<char32_t>(value);
  }

  const std::string& origin_;
  std::u32string text_;
  size_t at_ = 0;
  int nesting_ = 0, depth_ = 0;
  mutable size_t counted_ = 0;  // characters in which place() has found lines_ breaks
  mutable ptrdiff_t lines_ = 0;
  std::map<std::string, uint32_t> numbers_;
  std::vector<NamedRule> rules_;
  std::vector<bool> defined_;
  std::vector<size_t> used_;  // where a rule was first named
};
}  // namespace

std::shared_ptr<const Grammar> parse_gbnf(std::string_view source, const std::string& origin) {
  return grammar_of_rules(GbnfParser(source, origin).parse(), origin);
}

}  // namespace llmtool
