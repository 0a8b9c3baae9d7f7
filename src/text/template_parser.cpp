#include "text/template_parser.h"

#include <algorithm>
#include <array>

#include "llmtool/core/error.h"

namespace llmtool::jinja {

namespace {
class Parser : public ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  Template run() {
    Template made;
    made.body = body({});
    if (!stream_.is(TokenKind::kEnd)) stream_.unexpected("text or a tag");
    return made;
  }

 private:
  using Names = std::vector<std::string_view>;

  static std::string listed(const Names& names) {
    std::string text;
    for (const std::string_view name : names) text += cat(text.empty() ? "'" : " or '", name, "'");
    return text;
  }

  /// Up to a block that begins with one of the names, which stays; or up to the end where there are none.
  Body body(const Names& ends) {
    const Level level(depth_);
    Body made;
    for (;;) {
      line_ = stream_.current().line;
      if (stream_.is(TokenKind::kEnd)) {
        if (ends.empty()) return made;
        fail(cat("the template ends where ", listed(ends), " is expected"));
      }
      if (stream_.is(TokenKind::kData)) {
        Statement text = statement(StatementKind::kText);
        text.text = stream_.next().text;
        made.push_back(std::move(text));
      } else if (stream_.is(TokenKind::kOutputBegin)) {
        Statement output = statement(StatementKind::kOutput);
        stream_.next();
        output.expr = tuple();
        stream_.expect(TokenKind::kOutputEnd, "the end of the tag (}})");
        made.push_back(std::move(output));
      } else {
        stream_.expect(TokenKind::kBlockBegin, "a tag");
        const bool ended =
            std::any_of(ends.begin(), ends.end(), [&](auto name) { return stream_.name(name); });
        if (ended) return made;
        made.push_back(tag());
        stream_.expect(TokenKind::kBlockEnd, "the end of the tag (%})");
      }
    }
  }
  /// The body of a tag, whose own end stands before it; the name that ends it is taken.
  Body block(const Names& ends, std::string* ended_by = nullptr) {
    stream_.skip_op(":");
    stream_.expect(TokenKind::kBlockEnd, "the end of the tag (%})");
    Body made = body(ends);
    const std::string name = stream_.next().text;
    if (ended_by) *ended_by = name;
    return made;
  }

  Statement statement(StatementKind kind) const {
    Statement made;
    made.kind = kind;
    made.line = stream_.current().line;
    return made;
  }

  Statement tag() {
    line_ = stream_.current().line;
    if (!stream_.is(TokenKind::kName)) stream_.unexpected("the name of a tag");
    const std::string name = stream_.current().text;
    using Rule = Statement (Parser::*)();
    static const std::array<std::pair<std::string_view, Rule>, 12> kRules = {
        {{"for", &Parser::for_tag},
         {"if", &Parser::if_tag},
         {"set", &Parser::set_tag},
         {"macro", &Parser::macro_tag},
         {"call", &Parser::call_tag},
         {"filter", &Parser::filter_tag},
         {"with", &Parser::with_tag},
         {"print", &Parser::print_tag},
         {"generation", &Parser::generation_tag},
         {"break", &Parser::break_tag},
         {"continue", &Parser::break_tag},
         {"", nullptr}}};
    for (const auto& [word, rule] : kRules) {
      if (rule && word == name) return (this->*rule)();
    }
    for (const char* known : {"include", "import", "from", "extends", "block", "autoescape", "do", "trans"}) {
      if (name == known) fail(cat("the tag '", name, "' is not supported"));
    }
    fail(cat("the tag '", name, "' is not known"));
  }

  Target primary_target(bool with_namespace) {
    Target made;
    if (stream_.skip_op("(")) {
      made = target(with_namespace);
      stream_.expect_op(")");
      return made;
    }
    made.name = variable();
    if (with_namespace && stream_.skip_op(".")) made.attribute = stream_.take_name("a name");
    return made;
  }
  std::string variable() {
    const std::string name = stream_.take_name("the name of a variable");
    for (const char* constant : {"true", "false", "none", "True", "False", "None"}) {
      if (name == constant) fail(cat("cannot assign to '", name, "'"));
    }
    return name;
  }
  Target target(bool with_namespace) {
    const Level level(depth_);
    Target first = primary_target(with_namespace);
    if (!stream_.op(",")) return first;
    Target several;
    several.tuple = true;
    several.parts.push_back(std::move(first));
    while (stream_.skip_op(",")) {
      if (!stream_.is(TokenKind::kName) && !stream_.op("(")) break;
      if (stream_.name("in")) break;
      several.parts.push_back(primary_target(with_namespace));
    }
    return several;
  }

  /// Runs `parse` outside of ifs and loops, as the body of a function of its own.
  template <class Parse>
  auto apart(Parse parse, bool keeps_loops) {
    const int soft = std::exchange(soft_, 0), loops = loops_;
    if (!keeps_loops) loops_ = 0;
    auto made = parse();
    soft_ = soft;
    loops_ = loops;
    return made;
  }

  Statement for_tag() {
    Statement made = statement(StatementKind::kFor);
    stream_.next();
    made.targets.push_back(target(false));
    stream_.expect_name("in");
    made.expr = tuple(false, "recursive");
    const int soft = std::exchange(soft_, 0);
    if (stream_.skip_name("if")) made.condition = expression();
    if (stream_.name("recursive")) fail("a loop that calls itself ('recursive') is not supported");
    ++loops_;
    std::string end;
    made.bodies.push_back(block({"endfor", "else"}, &end));
    --loops_;
    if (end == "else") {
      made.has_else = true;
      made.bodies.push_back(block({"endfor"}));
    }
    soft_ = soft;
    return made;
  }

  Statement if_tag() {
    Statement made = statement(StatementKind::kIf);
    stream_.next();
    ++soft_;
    for (std::string end = "elif"; end != "endif";) {
      if (end == "elif") {
        made.exprs.push_back(tuple(false));
        made.bodies.push_back(block({"elif", "else", "endif"}, &end));
      } else {
        made.has_else = true;
        made.bodies.push_back(block({"endif"}, &end));
      }
    }
    --soft_;
    return made;
  }

  Statement set_tag() {
    Statement made = statement(StatementKind::kSet);
    stream_.next();
    made.targets.push_back(target(true));
    if (stream_.skip_op("=")) {
      made.expr = tuple();
      return made;
    }
    made.kind = StatementKind::kSetBlock;
    made.expr = apart([&] { return filters(nullptr); }, true);
    made.bodies.push_back(apart([&] { return block({"endset"}); }, true));
    return made;
  }

  void signature(Signature& made) {
    stream_.expect_op("(");
    while (!stream_.op(")")) {
      if (!made.names.empty()) stream_.expect_op(",");
      made.names.push_back(variable());
      if (stream_.skip_op("=")) {
        made.defaults.push_back(expression());
      } else if (!made.defaults.empty()) {
        fail("non-default argument follows default argument");
      }
    }
    stream_.next();
  }
  /// The body of something that is called, with the special names it uses noted.
  Body called_body(Signature& made, const char* end) {
    macros_.push_back(&made);
    Body body = apart([&] { return block({end}); }, false);
    macros_.pop_back();
    const auto own = [&](const char* name) {
      return std::find(made.names.begin(), made.names.end(), name) != made.names.end();
    };
    made.takes_caller &= !own("caller");
    made.takes_varargs &= !own("varargs");
    made.takes_kwargs &= !own("kwargs");
    return body;
  }

  Statement macro_tag() {
    Statement made = statement(StatementKind::kMacro);
    stream_.next();
    made.text = variable();
    const int soft = std::exchange(soft_, 0);
    signature(made.signature);
    soft_ = soft;
    made.bodies.push_back(called_body(made.signature, "endmacro"));
    return made;
  }

  Statement call_tag() {
    Statement made = statement(StatementKind::kCallBlock);
    stream_.next();
    if (stream_.op("(")) signature(made.signature);
    made.expr = expression();
    if (made.expr->kind != ExprKind::kCall) fail("expected a call in a call block");
    made.bodies.push_back(called_body(made.signature, "endcall"));
    return made;
  }

  Statement filter_tag() {
    Statement made = statement(StatementKind::kFilterBlock);
    stream_.next();
    made.expr = apart([&] { return filters(nullptr, true); }, true);
    made.bodies.push_back(apart([&] { return block({"endfilter"}); }, true));
    return made;
  }

  Statement with_tag() {
    Statement made = statement(StatementKind::kWith);
    stream_.next();
    while (!stream_.is(TokenKind::kBlockEnd)) {
      if (!made.targets.empty()) stream_.expect_op(",");
      made.targets.push_back(target(false));
      stream_.expect_op("=");
      made.exprs.push_back(expression());
    }
    made.bodies.push_back(apart([&] { return block({"endwith"}); }, true));
    return made;
  }

  Statement print_tag() {
    Statement made = statement(StatementKind::kOutput);
    stream_.next();
    made.expr = tuple();
    return made;
  }

  Statement generation_tag() {
    Statement made = statement(StatementKind::kScope);
    stream_.next();
    made.bodies.push_back(apart([&] { return block({"endgeneration"}); }, false));
    return made;
  }

  Statement break_tag() {
    Statement made = statement(stream_.name("break") ? StatementKind::kBreak : StatementKind::kContinue);
    if (loops_ == 0) fail(cat("'", stream_.current().text, "' outside of a loop"));
    stream_.next();
    return made;
  }

  int loops_ = 0;
};
}  // namespace

Template parse_template(std::string_view source, int& line) {
  Template made = Parser(tokenize(source, line), line).run();
  find_hidden_names(made);
  return made;
}

}  // namespace llmtool::jinja
