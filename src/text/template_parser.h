#pragma once
// Jinja's grammar, as far as chat templates use it.

#include <string>
#include <string_view>
#include <vector>

#include "text/template_ast.h"
#include "text/template_lexer.h"

namespace llmtool::jinja {

/// The tokens of a template, one after another.
class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}
  const Token& current() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token next();
  bool is(TokenKind kind) const { return current().kind == kind; }
  bool is(TokenKind kind, std::string_view text) const { return is(kind) && current().text == text; }
  bool op(std::string_view text) const { return is(TokenKind::kOperator, text); }
  bool name(std::string_view text) const { return is(TokenKind::kName, text); }
  bool skip(TokenKind kind, std::string_view text);
  bool skip_op(std::string_view text) { return skip(TokenKind::kOperator, text); }
  bool skip_name(std::string_view text) { return skip(TokenKind::kName, text); }
  void expect_op(std::string_view text);
  void expect_name(std::string_view text);
  std::string take_name(const char* what);
  void expect(TokenKind kind, const char* shown);
  [[noreturn]] void unexpected(const std::string& expected) const;

 private:
  std::vector<Token> tokens_;
  size_t at_ = 0;
};

class ExpressionParser {
 public:
  ExpressionParser(std::vector<Token> tokens, int& line);

 protected:
  ExprPtr expression(bool conditional = true);
  /// One expression, or several with commas between. What ends it: an end of a tag, `)`, or the name `end`.
  ExprPtr tuple(bool conditional = true, const char* end = nullptr, bool parenthesized = false);
  /// Filters of `value`; in a filter or set block of nothing, where the first comes without its |.
  ExprPtr filters(ExprPtr value, bool inline_first = false);

  TokenStream stream_;
  int& line_;
  int soft_ = 0;  // within an if, where an unknown filter fails only when it is called
  std::vector<Signature*> macros_;

  /// Counts one level of nesting.
  class Level {
   public:
    explicit Level(int& depth);
    ~Level() { --depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    int& depth_;
  };
  int depth_ = 0;
  ExprPtr node(ExprKind kind);
  static void adopt(Expr& parent, ExprPtr kid);

 private:
  ExprPtr either();
  ExprPtr both();
  ExprPtr inverse();
  ExprPtr comparison();
  ExprPtr sum();
  ExprPtr concatenation();
  ExprPtr product();
  ExprPtr power();
  ExprPtr unary(bool with_filters = true);
  ExprPtr primary();
  ExprPtr named();
  ExprPtr literal_list();
  ExprPtr literal_dict();
  ExprPtr postfix(ExprPtr value);
  ExprPtr filtered(ExprPtr value);
  ExprPtr subscript(ExprPtr value);
  ExprPtr subscripted(ExprPtr value, bool& sliced);
  ExprPtr call(ExprPtr callee);
  ExprPtr test(ExprPtr value);
  void arguments(Expr& into);
  Argument argument();
  std::string dotted_name();
  void require_known(bool known, const char* what, const std::string& name) const;
  template <class Next>
  ExprPtr chain(std::initializer_list<std::pair<const char*, Operator>> ops, Next next);
};

/// Fills in `hidden` throughout.
void find_hidden_names(Template& made);
/// Throws Fault after setting `line`.
Template parse_template(std::string_view source, int& line);

}  // namespace llmtool::jinja
