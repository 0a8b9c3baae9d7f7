#include "grammar/expression.h"

#include "text/unicode.h"

namespace llmtool {

namespace {
Expression of(Expression::Kind kind, std::vector<Expression> parts) {
  Expression e;
  e.kind = kind;
  e.parts = std::move(parts);
  return e;
}
}  // namespace

Expression Expression::characters(CodePoints set) {
  Expression e;
  e.kind = Kind::characters;
  e.set = std::move(set);
  return e;
}

Expression Expression::sequence(std::vector<Expression> parts) {
  return parts.size() == 1 ? std::move(parts[0]) : of(Kind::sequence, std::move(parts));
}

Expression Expression::choice(std::vector<Expression> parts) {
  return parts.size() == 1 ? std::move(parts[0]) : of(Kind::choice, std::move(parts));
}

Expression Expression::repeat(Expression part, int64_t least, int64_t most) {
  Expression e;
  e.kind = Kind::repeat;
  e.parts.push_back(std::move(part));
  e.least = least;
  e.most = most;
  return e;
}

Expression Expression::reference(uint32_t rule) {
  Expression e;
  e.kind = Kind::rule;
  e.rule = rule;
  return e;
}

Expression Expression::text(std::string_view utf8) {
  Expression e;
  for (size_t at = 0; at < utf8.size();) {
    const char32_t c = unicode::next(utf8, at);
    e.parts.push_back(characters({c, c}));
  }
  return e;
}

Expression Expression::any_text() { return repeat(characters({0, CodePoints::kLast}), 0, kUnbounded); }

Expression Expression::at(Kind begin_or_end) { return of(begin_or_end, {}); }

}  // namespace llmtool
