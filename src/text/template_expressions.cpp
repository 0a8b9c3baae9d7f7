#include <algorithm>

#include "llmtool/core/error.h"
#include "text/template_parser.h"

namespace llmtool::jinja {

namespace {
constexpr int kMaxNesting = 150, kMaxHeight = 400;

std::string shown_token(const Token& token) {
  switch (token.kind) {
    case TokenKind::kEnd:
      return "the end of the template";
    case TokenKind::kOutputEnd:
    case TokenKind::kBlockEnd:
      return cat("the end of the tag (", token.text, ")");
    case TokenKind::kString:
      return "a string";
    default:
      return cat("'", token.text.substr(0, 40), "'");
  }
}
}  // namespace

Token TokenStream::next() {
  Token token = current();
  if (at_ + 1 < tokens_.size()) ++at_;
  return token;
}
bool TokenStream::skip(TokenKind kind, std::string_view text) {
  const bool there = is(kind, text);
  if (there) next();
  return there;
}
void TokenStream::expect_op(std::string_view text) {
  if (!skip_op(text)) unexpected(cat("'", text, "'"));
}
void TokenStream::expect_name(std::string_view text) {
  if (!skip_name(text)) unexpected(cat("'", text, "'"));
}
std::string TokenStream::take_name(const char* what) {
  if (!is(TokenKind::kName)) unexpected(what);
  return next().text;
}
void TokenStream::expect(TokenKind kind, const char* shown) {
  if (!is(kind)) unexpected(shown);
  next();
}
void TokenStream::unexpected(const std::string& expected) const {
  fail(cat("expected ", expected, ", found ", shown_token(current())));
}

ExpressionParser::ExpressionParser(std::vector<Token> tokens, int& line)
    : stream_(std::move(tokens)), line_(line) {}

ExpressionParser::Level::Level(int& depth) : depth_(depth) {
  if (++depth_ > kMaxNesting) {
    --depth_;
    fail(cat("the template nests more than ", kMaxNesting, " levels deep"));
  }
}

ExprPtr ExpressionParser::node(ExprKind kind) {
  auto made = std::make_unique<Expr>();
  made->kind = kind;
  made->line = line_ = stream_.current().line;
  return made;
}

void ExpressionParser::adopt(Expr& parent, ExprPtr kid) {
  parent.height = std::max(parent.height, kid->height + 1);
  if (parent.height > kMaxHeight) fail(cat("an expression of more than ", kMaxHeight, " levels"));
  parent.kids.push_back(std::move(kid));
}

ExprPtr ExpressionParser::expression(bool conditional) {
  const Level level(depth_);
  ExprPtr value = either();
  while (conditional && stream_.name("if")) {
    ExprPtr choice = node(ExprKind::kConditional);
    stream_.next();
    ++soft_;
    adopt(*choice, either());
    adopt(*choice, std::move(value));
    if (stream_.skip_name("else")) adopt(*choice, expression());
    --soft_;
    value = std::move(choice);
  }
  return value;
}

ExprPtr ExpressionParser::either() {
  ExprPtr left = both();
  while (stream_.name("or")) {
    ExprPtr whole = node(ExprKind::kOr);
    stream_.next();
    adopt(*whole, std::move(left));
    adopt(*whole, both());
    left = std::move(whole);
  }
  return left;
}

ExprPtr ExpressionParser::both() {
  ExprPtr left = inverse();
  while (stream_.name("and")) {
    ExprPtr whole = node(ExprKind::kAnd);
    stream_.next();
    adopt(*whole, std::move(left));
    adopt(*whole, inverse());
    left = std::move(whole);
  }
  return left;
}

ExprPtr ExpressionParser::inverse() {
  if (!stream_.name("not")) return comparison();
  const Level level(depth_);
  ExprPtr whole = node(ExprKind::kNot);
  stream_.next();
  adopt(*whole, inverse());
  return whole;
}

ExprPtr ExpressionParser::comparison() {
  static const std::pair<const char*, Operator> kOps[] = {
      {"==", Operator::kEqual},     {"!=", Operator::kUnequal}, {"<", Operator::kLess},
      {"<=", Operator::kLessEqual}, {">", Operator::kGreater},  {">=", Operator::kGreaterEqual}};
  ExprPtr first = sum();
  ExprPtr whole;
  for (;;) {
    const auto* op =
        std::find_if(std::begin(kOps), std::end(kOps), [&](auto& o) { return stream_.op(o.first); });
    Operator found = Operator::kIn;
    const bool not_in =
        stream_.name("not") && stream_.ahead().kind == TokenKind::kName && stream_.ahead().text == "in";
    if (op != std::end(kOps)) {
      found = op->second;
    } else if (not_in) {
      found = Operator::kNotIn;
    } else if (!stream_.name("in")) {
      break;
    }
    if (!whole) {
      whole = node(ExprKind::kCompare);
      adopt(*whole, std::move(first));
    }
    stream_.next();
    if (not_in) stream_.next();
    whole->ops.push_back(found);
    adopt(*whole, sum());
  }
  return whole ? std::move(whole) : std::move(first);
}

template <class Next>
ExprPtr ExpressionParser::chain(std::initializer_list<std::pair<const char*, Operator>> ops, Next next) {
  ExprPtr left = (this->*next)();
  for (;;) {
    const auto* op = std::find_if(ops.begin(), ops.end(), [&](auto& o) { return stream_.op(o.first); });
    if (op == ops.end()) return left;
    ExprPtr whole = node(ExprKind::kArithmetic);
    whole->ops.push_back(op->second);
    stream_.next();
    adopt(*whole, std::move(left));
    adopt(*whole, (this->*next)());
    left = std::move(whole);
  }
}

ExprPtr ExpressionParser::sum() {
  return chain({{"+", Operator::kAdd}, {"-", Operator::kSubtract}}, &ExpressionParser::concatenation);
}

ExprPtr ExpressionParser::concatenation() {
  ExprPtr first = product();
  if (!stream_.op("~")) return first;
  ExprPtr whole = node(ExprKind::kConcat);
  adopt(*whole, std::move(first));
  while (stream_.skip_op("~")) adopt(*whole, product());
  return whole;
}

ExprPtr ExpressionParser::product() {
  return chain({{"*", Operator::kMultiply},
                {"/", Operator::kDivide},
                {"//", Operator::kFloorDivide},
                {"%", Operator::kModulo}},
               &ExpressionParser::power);
}

ExprPtr ExpressionParser::power() {
  ExprPtr left = unary();
  while (stream_.op("**")) {
    ExprPtr whole = node(ExprKind::kArithmetic);
    whole->ops.push_back(Operator::kPower);
    stream_.next();
    adopt(*whole, std::move(left));
    adopt(*whole, unary());
    left = std::move(whole);
  }
  return left;
}

ExprPtr ExpressionParser::unary(bool with_filters) {
  ExprPtr value;
  if (stream_.op("-") || stream_.op("+")) {
    const Level level(depth_);
    value = node(stream_.op("-") ? ExprKind::kNegate : ExprKind::kPositive);
    stream_.next();
    adopt(*value, unary(false));
  } else {
    value = primary();
  }
  value = postfix(std::move(value));
  return with_filters ? filtered(std::move(value)) : std::move(value);
}

ExprPtr ExpressionParser::named() {
  ExprPtr value = node(ExprKind::kConstant);
  const Token token = stream_.next();
  const std::string& name = token.text;
  if (name == "true" || name == "True") {
    value->constant = Value(true);
  } else if (name == "false" || name == "False") {
    value->constant = Value(false);
  } else if (name == "none" || name == "None") {
    value->constant = Value::none();
  } else {
    value->kind = ExprKind::kName;
    value->name = name;
    for (Signature* macro : macros_) {
      macro->takes_caller |= name == "caller";
      macro->takes_varargs |= name == "varargs";
      macro->takes_kwargs |= name == "kwargs";
    }
  }
  return value;
}

ExprPtr ExpressionParser::primary() {
  const Token& token = stream_.current();
  if (token.kind == TokenKind::kName) return named();
  ExprPtr value = node(ExprKind::kConstant);
  if (token.kind == TokenKind::kString) {
    auto text = std::make_shared<StringObject>();
    while (stream_.is(TokenKind::kString)) text->text += stream_.next().text;
    value->constant = Value(Kind::kString, std::move(text));
    return value;
  }
  if (token.kind == TokenKind::kInteger) {
    value->constant = Value(parse_integer(token.text, 0).value());
    stream_.next();
    return value;
  }
  if (token.kind == TokenKind::kFloat) {
    value->constant = Value(parse_float(token.text).value());
    stream_.next();
    return value;
  }
  if (stream_.skip_op("(")) {
    value = tuple(true, nullptr, true);
    stream_.expect_op(")");
    return value;
  }
  if (stream_.op("[")) return literal_list();
  if (stream_.op("{")) return literal_dict();
  stream_.unexpected("an expression");
}

ExprPtr ExpressionParser::tuple(bool conditional, const char* end, bool parenthesized) {
  ExprPtr several = node(ExprKind::kTuple);
  bool is_tuple = false;
  for (;;) {
    const bool ended = stream_.is(TokenKind::kOutputEnd) || stream_.is(TokenKind::kBlockEnd) ||
                       stream_.op(")") || (end && stream_.name(end));
    if (ended) break;
    adopt(*several, expression(conditional));
    if (!stream_.skip_op(",")) break;
    is_tuple = true;
  }
  if (is_tuple) return several;
  if (several->kids.size() == 1) return std::move(several->kids[0]);
  if (!parenthesized) stream_.unexpected("an expression");
  return several;
}

ExprPtr ExpressionParser::literal_list() {
  ExprPtr list = node(ExprKind::kList);
  stream_.expect_op("[");
  while (!stream_.op("]")) {
    adopt(*list, expression());
    if (!stream_.op("]")) stream_.expect_op(",");
  }
  stream_.next();
  return list;
}

ExprPtr ExpressionParser::literal_dict() {
  ExprPtr dict = node(ExprKind::kDict);
  stream_.expect_op("{");
  while (!stream_.op("}")) {
    adopt(*dict, expression());
    stream_.expect_op(":");
    adopt(*dict, expression());
    if (!stream_.op("}")) stream_.expect_op(",");
  }
  stream_.next();
  return dict;
}

ExprPtr ExpressionParser::postfix(ExprPtr value) {
  for (;;) {
    if (stream_.op(".") || stream_.op("[")) {
      value = subscript(std::move(value));
    } else if (stream_.op("(")) {
      value = call(std::move(value));
    } else {
      return value;
    }
  }
}

ExprPtr ExpressionParser::filtered(ExprPtr value) {
  for (;;) {
    if (stream_.op("|")) {
      value = filters(std::move(value));
    } else if (stream_.name("is")) {
      value = test(std::move(value));
    } else if (stream_.op("(")) {  // the result of a filter or test can be called
      value = call(std::move(value));
    } else {
      return value;
    }
  }
}

ExprPtr ExpressionParser::subscript(ExprPtr value) {
  ExprPtr whole = node(ExprKind::kItem);
  if (stream_.skip_op(".")) {
    if (stream_.is(TokenKind::kName)) {
      whole->kind = ExprKind::kAttribute;
      whole->name = stream_.next().text;
      adopt(*whole, std::move(value));
      return whole;
    }
    if (!stream_.is(TokenKind::kInteger)) stream_.unexpected("a name or number");
    adopt(*whole, std::move(value));
    adopt(*whole, primary());
    return whole;
  }
  stream_.expect_op("[");
  bool sliced = false;
  ExprPtr first = subscripted(std::move(value), sliced);
  if (sliced) {
    if (stream_.op(",")) fail("a slice among several subscripts is not supported");
    stream_.expect_op("]");
    return first;
  }
  // first: an item of one subscript, or of a tuple of them
  if (stream_.op(",")) {
    ExprPtr several = node(ExprKind::kTuple);
    adopt(*several, std::move(first->kids[1]));
    while (stream_.skip_op(",")) adopt(*several, expression());
    first->kids.pop_back();
    adopt(*first, std::move(several));
  }
  stream_.expect_op("]");
  return first;
}

ExprPtr ExpressionParser::subscripted(ExprPtr value, bool& sliced) {
  ExprPtr whole = node(ExprKind::kItem);
  adopt(*whole, std::move(value));
  const auto none = [&] {
    ExprPtr absent = node(ExprKind::kConstant);
    absent->constant = Value::none();
    return absent;
  };
  const auto ends = [&] { return stream_.op("]") || stream_.op(",") || stream_.op(":"); };
  if (!stream_.op(":")) adopt(*whole, expression());
  if (!stream_.op(":")) return whole;
  sliced = true;
  whole->kind = ExprKind::kSlice;
  if (whole->kids.size() == 1) adopt(*whole, none());
  stream_.next();
  adopt(*whole, ends() ? none() : expression());
  adopt(*whole, stream_.skip_op(":") && !ends() ? expression() : none());
  return whole;
}

Argument ExpressionParser::argument() {
  Argument made;
  if (stream_.skip_op("*")) {
    made.kind = Argument::Kind::kStar;
  } else if (stream_.skip_op("**")) {
    made.kind = Argument::Kind::kDoubleStar;
  } else if (stream_.is(TokenKind::kName) && stream_.ahead().kind == TokenKind::kOperator &&
             stream_.ahead().text == "=") {
    made.kind = Argument::Kind::kNamed;
    made.name = stream_.next().text;
    stream_.next();
  }
  made.value = expression();
  return made;
}

void ExpressionParser::arguments(Expr& into) {
  stream_.expect_op("(");
  Argument::Kind highest = Argument::Kind::kPositional;
  while (!stream_.op(")")) {
    Argument made = argument();
    const bool again = made.kind == highest &&
                       (made.kind == Argument::Kind::kStar || made.kind == Argument::Kind::kDoubleStar);
    const bool named_late = made.kind == Argument::Kind::kNamed && highest == Argument::Kind::kStar;
    if (again || (made.kind < highest && !named_late)) fail("invalid syntax for function call expression");
    highest = std::max(highest, made.kind);
    into.height = std::max(into.height, made.value->height + 1);
    if (into.height > kMaxHeight) fail(cat("an expression of more than ", kMaxHeight, " levels"));
    into.arguments.push_back(std::move(made));
    if (!stream_.op(")")) stream_.expect_op(",");
  }
  stream_.next();
}

ExprPtr ExpressionParser::call(ExprPtr callee) {
  ExprPtr whole = node(ExprKind::kCall);
  adopt(*whole, std::move(callee));
  arguments(*whole);
  return whole;
}

std::string ExpressionParser::dotted_name() {
  std::string name = stream_.take_name("a name");
  while (stream_.skip_op(".")) name.append(1, '.').append(stream_.take_name("a name"));
  return name;
}

void ExpressionParser::require_known(bool known, const char* what, const std::string& name) const {
  if (!known && soft_ == 0) fail(cat("the ", what, " '", name, "' is not known"));
}

ExprPtr ExpressionParser::filters(ExprPtr value, bool inline_first) {
  while (stream_.op("|") || inline_first) {
    ExprPtr whole = node(ExprKind::kFilter);
    if (!inline_first) stream_.next();
    inline_first = false;
    whole->name = dotted_name();
    require_known(has_filter(whole->name), "filter", whole->name);
    if (value) adopt(*whole, std::move(value));
    if (stream_.op("(")) arguments(*whole);
    value = std::move(whole);
  }
  return value;
}

ExprPtr ExpressionParser::test(ExprPtr value) {
  ExprPtr whole = node(ExprKind::kTest);
  stream_.expect_name("is");
  const bool negated = stream_.skip_name("not");
  whole->name = dotted_name();
  require_known(has_test(whole->name), "test", whole->name);
  adopt(*whole, std::move(value));
  const bool starts = stream_.is(TokenKind::kName) || stream_.is(TokenKind::kString) ||
                      stream_.is(TokenKind::kInteger) || stream_.is(TokenKind::kFloat) || stream_.op("[") ||
                      stream_.op("{");
  if (stream_.op("(")) {
    arguments(*whole);
  } else if (starts && !stream_.name("else") && !stream_.name("or") && !stream_.name("and")) {
    if (stream_.name("is")) fail("You cannot chain multiple tests with is");
    Argument made;
    made.value = postfix(primary());
    whole->height = std::max(whole->height, made.value->height + 1);
    whole->arguments.push_back(std::move(made));
  }
  if (!negated) return whole;
  ExprPtr inverted = node(ExprKind::kNot);
  adopt(*inverted, std::move(whole));
  return inverted;
}

}  // namespace llmtool::jinja
