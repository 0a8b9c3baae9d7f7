// The expressions of a template.

#include "llmtool/core/error.h"
#include "text/template_interpreter.h"

namespace llmtool::jinja {

Value Interpreter::evaluate(const Expr& expr, const FramePtr& frame) {
  const Deeper deeper(heap_);
  heap_.step();
  line_ = expr.line;
  const auto kid = [&](size_t i) { return evaluate(*expr.kids[i], frame); };
  switch (expr.kind) {
    case ExprKind::kConstant:
      return expr.constant;
    case ExprKind::kName:
      return variable(expr.name, frame);
    case ExprKind::kList:
    case ExprKind::kTuple:
      return evaluate_array(expr, frame);
    case ExprKind::kDict:
      return evaluate_dict(expr, frame);
    case ExprKind::kAttribute:
      return attribute(heap_, kid(0), expr.name);
    case ExprKind::kItem: {
      const Value object = kid(0);
      return item(heap_, object, kid(1));
    }
    case ExprKind::kSlice: {
      const Value object = kid(0), start = kid(1), stop = kid(2);
      return slice(heap_, object, start, stop, kid(3));
    }
    case ExprKind::kCall:
      return evaluate_call(expr, frame);
    case ExprKind::kFilter:
    case ExprKind::kTest: {
      const Value value = kid(0);
      Arguments arguments = evaluate_arguments(expr, frame);
      if (expr.kind == ExprKind::kFilter) return call_filter(heap_, expr.name, value, arguments);
      return Value(call_test(heap_, expr.name, value, arguments));
    }
    case ExprKind::kNegate:
      return negate(kid(0));
    case ExprKind::kPositive:
      return positive(kid(0));
    case ExprKind::kNot:
      return Value(!truth(heap_, kid(0)));
    case ExprKind::kAnd:
    case ExprKind::kOr: {
      const Value left = kid(0);
      return truth(heap_, left) == (expr.kind == ExprKind::kOr) ? left : kid(1);
    }
    case ExprKind::kConcat:
      return evaluate_concat(expr, frame);
    case ExprKind::kArithmetic: {
      const Value left = kid(0);
      return arithmetic(heap_, expr.ops[0], left, kid(1));
    }
    case ExprKind::kCompare:
      return evaluate_compare(expr, frame);
    case ExprKind::kConditional:
      return evaluate_conditional(expr, frame);
  }
  return {};
}

Value Interpreter::variable(const std::string& name, const FramePtr& frame) {
  if (const Value* found = frame->find(name)) {
    const bool hidden = found->is(Kind::kUndefined) && !found->object();
    return hidden ? heap_.undefined(cat("'", name, "' is undefined")) : *found;
  }
  if (const Value* found = context_.dict().find(std::string_view(name))) return *found;
  if (auto found = global(heap_, name)) return *found;
  if (name == "self" || name == "super") fail(cat("'", name, "' is not supported"));
  return heap_.undefined(cat("'", name, "' is undefined"));
}

Value Interpreter::evaluate_array(const Expr& expr, const FramePtr& frame) {
  Values items;
  for (const ExprPtr& kid : expr.kids) items.push_back(evaluate(*kid, frame));
  return expr.kind == ExprKind::kList ? heap_.list(std::move(items)) : heap_.tuple(std::move(items));
}

Value Interpreter::evaluate_dict(const Expr& expr, const FramePtr& frame) {
  std::vector<std::pair<Value, Value>> items;
  for (size_t i = 0; i + 1 < expr.kids.size(); i += 2) {
    const Value key = evaluate(*expr.kids[i], frame);
    items.emplace_back(key, evaluate(*expr.kids[i + 1], frame));
  }
  return heap_.dict(std::move(items));
}

Value Interpreter::evaluate_compare(const Expr& expr, const FramePtr& frame) {
  Value left = evaluate(*expr.kids[0], frame);
  for (size_t i = 0; i < expr.ops.size(); ++i) {
    const Value right = evaluate(*expr.kids[i + 1], frame);
    if (!compare(heap_, expr.ops[i], left, right)) return Value(false);
    left = right;
  }
  return Value(true);
}

Value Interpreter::evaluate_concat(const Expr& expr, const FramePtr& frame) {
  Values parts;
  for (const ExprPtr& kid : expr.kids) parts.push_back(evaluate(*kid, frame));
  Builder text(heap_);
  for (const Value& part : parts) print(text, part);
  return text.value();
}

Value Interpreter::evaluate_conditional(const Expr& expr, const FramePtr& frame) {
  if (truth(heap_, evaluate(*expr.kids[0], frame))) return evaluate(*expr.kids[1], frame);
  if (expr.kids.size() > 2) return evaluate(*expr.kids[2], frame);
  return heap_.undefined(cat("the inline if-expression on line ", expr.line,
                             " evaluated to false and no else section was defined."));
}

Value Interpreter::evaluate_call(const Expr& expr, const FramePtr& frame, const Value* caller) {
  const Value callee = evaluate(*expr.kids[0], frame);
  Arguments arguments = evaluate_arguments(expr, frame);
  if (caller) arguments.named.emplace_back("caller", *caller);
  line_ = expr.line;
  return call(heap_, callee, arguments);
}

Arguments Interpreter::evaluate_arguments(const Expr& expr, const FramePtr& frame) {
  Arguments made;
  const auto add_named = [&](const std::string& name, const Value& value) {
    for (const auto& [key, old] : made.named) {
      if (key == name) fail(cat("got multiple values for keyword argument '", name, "'"));
    }
    made.named.emplace_back(name, value);
  };
  for (const Argument& argument : expr.arguments) {
    const Value value = evaluate(*argument.value, frame);
    switch (argument.kind) {
      case Argument::Kind::kPositional:
        made.positional.push_back(value);
        break;
      case Argument::Kind::kNamed:
        add_named(argument.name, value);
        break;
      case Argument::Kind::kStar: {
        const Values more = to_values(heap_, value);
        heap_.room((made.positional.size() + more.size()) * sizeof(Value));
        made.positional.insert(made.positional.end(), more.begin(), more.end());
        break;
      }
      case Argument::Kind::kDoubleStar:
        if (!value.is(Kind::kDict)) fail("the argument after ** must be a mapping");
        for (const auto& [key, each] : value.dict().items) {
          heap_.step(1 + made.named.size());
          add_named(required_text(key, "the names after **"), each);
        }
    }
  }
  line_ = expr.line;
  return made;
}

}  // namespace llmtool::jinja
