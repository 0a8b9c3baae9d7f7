#include "text/template_interpreter.h"

#include <algorithm>

#include "llmtool/core/error.h"

namespace llmtool::jinja {

const Value* Frame::find(std::string_view name) const {
  for (const Frame* frame = this; frame; frame = frame->parent.get()) {
    for (const auto& [key, value] : frame->variables) {
      if (key == name) return &value;
    }
  }
  return nullptr;
}

void Frame::set(std::string_view name, Value value) {
  for (auto& [key, old] : variables) {
    if (key == name) {
      old = std::move(value);
      return;
    }
  }
  variables.emplace_back(name, std::move(value));
}

namespace {
FramePtr inner(const FramePtr& frame, const std::vector<std::string>& hidden = {}) {
  auto made = std::make_shared<Frame>();
  made->parent = frame;
  for (const std::string& name : hidden) made->variables.emplace_back(name, Value());
  return made;
}

/// Lets a loop go of its items however it is left.
class LoopEnd {
 public:
  explicit LoopEnd(LoopObject& loop) : loop_(loop) {}
  ~LoopEnd() { loop_.clear(); }
  LoopEnd(const LoopEnd&) = delete;
  LoopEnd& operator=(const LoopEnd&) = delete;

 private:
  LoopObject& loop_;
};
}  // namespace

Interpreter::Interpreter(Heap& heap, Value context) : heap_(heap), context_(std::move(context)) {}

std::string Interpreter::run(const Template& made) {
  Builder out(heap_);
  out_ = &out;
  text_ = &out;
  run(made.body, inner(nullptr, made.hidden));
  return out.take();
}

Interpreter::Flow Interpreter::run(const Body& body, const FramePtr& frame) {
  for (const Statement& statement : body) {
    const Flow flow = run(statement, frame);
    if (flow != Flow::kOn) return flow;
  }
  return Flow::kOn;
}

Interpreter::Flow Interpreter::run(const Statement& statement, const FramePtr& frame) {
  heap_.step();
  line_ = statement.line;
  switch (statement.kind) {
    case StatementKind::kText:
      out_->add(statement.text);
      return Flow::kOn;
    case StatementKind::kOutput: {
      const Value value = evaluate(*statement.expr, frame);
      print(*out_, value);
      return Flow::kOn;
    }
    case StatementKind::kIf:
      return run_if(statement, frame);
    case StatementKind::kFor:
      return run_for(statement, frame);
    case StatementKind::kSet:
      assign(statement.targets[0], evaluate(*statement.expr, frame), frame);
      return Flow::kOn;
    case StatementKind::kSetBlock:
      return run_set_block(statement, frame);
    case StatementKind::kMacro:
      frame->set(statement.text, macro(statement.text, statement, frame));
      return Flow::kOn;
    case StatementKind::kCallBlock:
      run_call_block(statement, frame);
      return Flow::kOn;
    case StatementKind::kFilterBlock:
      return run_filter_block(statement, frame);
    case StatementKind::kWith:
      return run_with(statement, frame);
    case StatementKind::kScope:
      run_scope(statement, frame);
      return Flow::kOn;
    case StatementKind::kBreak:
      return Flow::kBreak;
    case StatementKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kOn;
}

Interpreter::Flow Interpreter::run_if(const Statement& statement, const FramePtr& frame) {
  const Deeper deeper(heap_);
  for (size_t i = 0; i < statement.exprs.size(); ++i) {
    if (truth(heap_, evaluate(*statement.exprs[i], frame))) return run(statement.bodies[i], frame);
  }
  return statement.has_else ? run(statement.bodies.back(), frame) : Flow::kOn;
}

Value Interpreter::filtered_items(const Statement& statement, const FramePtr& frame, const Value& iterator) {
  return heap_.generator(iterator.depth(), [this, &statement, frame, iterator](Value& out) {
    while (next(heap_, iterator, out)) {
      const FramePtr scope = inner(frame);
      assign(statement.targets[0], out, scope);
      if (truth(heap_, evaluate(*statement.condition, scope))) return true;
    }
    return false;
  });
}

Interpreter::Flow Interpreter::run_for(const Statement& statement, const FramePtr& frame) {
  const Deeper deeper(heap_);
  const Value iterable = evaluate(*statement.expr, frame);
  const auto loop = heap_.make<LoopObject>();
  heap_.watch(loop);
  const LoopEnd end(*loop);
  loop->iterator = required_iterator(heap_, iterable);
  if (statement.condition) loop->iterator = filtered_items(statement, frame, loop->iterator);
  loop->iterable = statement.condition ? loop->iterator : iterable;
  bool completed = false;  // an iteration that reached its end, which is what an else asks for
  while (advance(heap_, *loop)) {
    heap_.step(6);
    const FramePtr scope = inner(frame, statement.hidden[0]);
    scope->set("loop", Value(Kind::kLoop, loop));
    assign(statement.targets[0], loop->current, scope);
    const Flow flow = run(statement.bodies[0], scope);
    if (flow == Flow::kBreak) break;
    completed = completed || flow == Flow::kOn;
  }
  if (!statement.has_else || completed) return Flow::kOn;
  return run(statement.bodies[1], inner(frame, statement.hidden[1]));
}

void Interpreter::assign(const Target& target, const Value& value, const FramePtr& frame) {
  if (target.tuple) {
    const Values parts = to_values(heap_, value);
    if (parts.size() != target.parts.size())
      fail(cat("cannot unpack ", parts.size(), " values into ", target.parts.size(), " variables"));
    for (size_t i = 0; i < parts.size(); ++i) assign(target.parts[i], parts[i], frame);
    return;
  }
  if (target.attribute.empty()) return frame->set(target.name, value);
  const Value space = variable(target.name, frame);
  if (!space.is(Kind::kNamespace)) fail("cannot assign attribute on non-namespace object");
  if (target.attribute.starts_with("_"))
    fail(cat("a namespace cannot hold '", target.attribute, "': it begins with _"));
  auto& object = space.as<NamespaceObject>();
  const auto old = std::find_if(object.items.begin(), object.items.end(),
                                [&](const auto& item) { return item.first == target.attribute; });
  if (old != object.items.end()) {
    const Value before = std::exchange(old->second, value);
    return;
  }
  heap_.charge(object, 64 + target.attribute.size());
  object.items.emplace_back(target.attribute, value);
}

Value Interpreter::captured(const Body& body, const FramePtr& frame, Flow& flow) {
  const Deeper deeper(heap_);
  struct Restore {
    ~Restore() { place = before; }
    Builder*& place;
    Builder* before;
  };
  Builder text(heap_);
  const Restore restore{out_, out_};
  out_ = &text;
  flow = run(body, frame);
  return text.value();
}

Interpreter::Flow Interpreter::run_set_block(const Statement& statement, const FramePtr& frame) {
  const FramePtr scope = inner(frame, statement.hidden[0]);
  Flow flow = Flow::kOn;
  Value text = captured(statement.bodies[0], scope, flow);
  if (flow != Flow::kOn) return flow;
  if (statement.expr) text = evaluate_filters(*statement.expr, scope, text);
  assign(statement.targets[0], text, frame);
  return Flow::kOn;
}

Interpreter::Flow Interpreter::run_filter_block(const Statement& statement, const FramePtr& frame) {
  const FramePtr scope = inner(frame, statement.hidden[0]);
  Flow flow = Flow::kOn;
  const Value text = captured(statement.bodies[0], scope, flow);
  if (flow != Flow::kOn) return flow;
  print(*out_, evaluate_filters(*statement.expr, scope, text));
  return Flow::kOn;
}

Value Interpreter::evaluate_filters(const Expr& expr, const FramePtr& frame, const Value& base) {
  const Deeper deeper(heap_);
  const Value value = expr.kids.empty() ? base : evaluate_filters(*expr.kids[0], frame, base);
  Arguments arguments = evaluate_arguments(expr, frame);
  line_ = expr.line;
  return call_filter(heap_, expr.name, value, arguments);
}

void Interpreter::run_scope(const Statement& statement, const FramePtr& frame) {
  const Deeper deeper(heap_);
  const size_t first = text_->text().size(), before = out_->text().size();
  run(statement.bodies[0], inner(frame, statement.hidden[0]));
  // The reference library counts from the whole text even where a block is part of a captured one.
  if (out_->text().size() > before) generated_.emplace_back(first, first + out_->text().size() - before);
}

void Interpreter::run_call_block(const Statement& statement, const FramePtr& frame) {
  const Deeper deeper(heap_);
  const Value caller = macro("caller", statement, frame);
  print(*out_, evaluate_call(*statement.expr, frame, &caller));
}

Interpreter::Flow Interpreter::run_with(const Statement& statement, const FramePtr& frame) {
  const Deeper deeper(heap_);
  const FramePtr scope = inner(frame, statement.hidden[0]);
  for (size_t i = 0; i < statement.targets.size(); ++i)
    assign(statement.targets[i], evaluate(*statement.exprs[i], frame), scope);
  return run(statement.bodies[0], scope);
}

Value Interpreter::macro(const std::string& name, const Statement& statement, const FramePtr& frame) {
  const Value made = heap_.function(name, 0, [this, name, &statement, frame](Heap&, Arguments& arguments) {
    return invoke(name, statement, frame, arguments);
  });
  heap_.watch(made.object());
  made.as<FunctionObject>().shown = cat("<Macro '", name, "'>");
  made.as<FunctionObject>().signature = &statement.signature;
  return made;
}

Value Interpreter::invoke(const std::string& name, const Statement& statement, const FramePtr& parent,
                          Arguments& arguments) {
  heap_.step(6);
  const Signature& signature = statement.signature;
  const FramePtr frame = inner(parent, statement.hidden[0]);
  const size_t count = signature.names.size(), given = std::min(count, arguments.positional.size());
  auto& named = arguments.named;
  const auto take = [&](const std::string& key) -> std::optional<Value> {
    const auto at = std::find_if(named.begin(), named.end(), [&](const auto& n) { return n.first == key; });
    if (at == named.end()) return {};
    const Value value = at->second;
    named.erase(at);
    return value;
  };
  std::vector<size_t> absent;
  for (size_t i = 0; i < count; ++i) {
    const std::string& key = signature.names[i];
    const std::optional<Value> value = i < given ? arguments.positional[i] : take(key);
    if (!value) absent.push_back(i);
    frame->set(key, value ? *value : heap_.undefined(cat("'", key, "' is undefined")));
  }
  const size_t without = count - signature.defaults.size();
  for (const size_t i : absent) {  // in order, as a default may use the parameters before it
    const std::string& key = signature.names[i];
    frame->set(key, i < without ? heap_.undefined(cat("parameter '", key, "' was not provided"))
                                : evaluate(*signature.defaults[i - without], frame));
  }
  if (signature.takes_caller) {
    const auto caller = take("caller");
    frame->set("caller", caller && !caller->is(Kind::kNone) ? *caller : heap_.undefined("No caller defined"));
  }
  if (signature.takes_kwargs) {
    std::vector<std::pair<Value, Value>> rest;
    for (const auto& [key, value] : named) rest.emplace_back(heap_.string(key), value);
    frame->set("kwargs", heap_.dict(std::move(rest)));
  } else if (!named.empty()) {
    fail(cat("macro '", name, "' takes no keyword argument '", named[0].first, "'"));
  }
  if (signature.takes_varargs) {
    frame->set("varargs", heap_.tuple({arguments.positional.begin() + static_cast<std::ptrdiff_t>(given),
                                       arguments.positional.end()}));
  } else if (arguments.positional.size() > count) {
    fail(cat("macro '", name, "' takes not more than ", count, " argument(s)"));
  }
  Flow flow = Flow::kOn;
  return captured(statement.bodies[0], frame, flow);
}

}  // namespace llmtool::jinja
