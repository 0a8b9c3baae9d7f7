#pragma once
// A parsed template.

#include <memory>
#include <string>
#include <vector>

#include "text/template_eval.h"
#include "text/template_value.h"

namespace llmtool::jinja {

enum class ExprKind : uint8_t {
  kConstant,
  kName,
  kList,
  kTuple,
  kDict,  // kids: key, value, key, value, ...
  kAttribute,
  kItem,
  kSlice,  // kids: object, start, stop, step; absent ones are constants None
  kCall,
  kFilter,  // kids: the value, or nothing where the block's text is filtered
  kTest,
  kNegate,
  kPositive,
  kNot,
  kAnd,
  kOr,
  kConcat,
  kArithmetic,
  kCompare,      // kids: one more than ops
  kConditional,  // kids: condition, then, and perhaps else
};

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct Argument {
  enum class Kind : uint8_t { kPositional, kNamed, kStar, kDoubleStar };
  Kind kind = Kind::kPositional;
  std::string name;
  ExprPtr value;
};

struct Expr {
  ExprKind kind = ExprKind::kConstant;
  int line = 0;
  int height = 1;  // levels of expressions from here down
  std::string name;
  Value constant;
  std::vector<ExprPtr> kids;
  std::vector<Argument> arguments;
  std::vector<Operator> ops;
};

struct Statement;
using Body = std::vector<Statement>;

/// What is assigned to: a name, `namespace.attribute`, or several of them.
struct Target {
  std::string name, attribute;
  std::vector<Target> parts;
  bool tuple = false;
};

struct Signature {
  std::vector<std::string> names;
  std::vector<ExprPtr> defaults;  // of the last names
  bool takes_caller = false, takes_varargs = false, takes_kwargs = false;
};

enum class StatementKind : uint8_t {
  kText,
  kOutput,
  kIf,
  kFor,
  kSet,
  kSetBlock,  // expr: filters of the text
  kMacro,
  kCallBlock,
  kFilterBlock,
  kWith,
  kScope,  // a generation block
  kBreak,
  kContinue,
};

struct Statement {
  StatementKind kind = StatementKind::kText;
  int line = 0;
  std::string text;            // or a macro's name
  ExprPtr expr, condition;     // condition: a for block's `if`
  std::vector<ExprPtr> exprs;  // an if's conditions, a with's values
  std::vector<Target> targets;
  std::vector<Body> bodies;  // one for each condition, then the else
  bool has_else = false;
  std::vector<std::vector<std::string>> hidden;  // for each body that is a scope: see template_scopes.cpp
  Signature signature;
};

struct Template {
  Body body;
  std::vector<std::string> hidden;
};

}  // namespace llmtool::jinja
