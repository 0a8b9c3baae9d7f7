// Which names a scope hides. Jinja decides where a name is looked up before it renders: one that a scope sets
// before it ever reads it is the scope's own from the start, so that scopes within do not see what the
// context has under that name, even before it is set.

#include <map>
#include <set>

#include "text/template_parser.h"

namespace llmtool::jinja {

namespace {
/// What one scope knows of its names.
struct Symbols {
  const Symbols* parent = nullptr;
  std::map<std::string, bool> names;  // whether it hides what is outside
  std::set<std::string> stored;

  bool knows(const std::string& name) const {
    return names.contains(name) || (parent && parent->knows(name));
  }
  void load(const std::string& name) {
    if (!knows(name)) names[name] = false;
  }
  void parameter(const std::string& name) {
    stored.insert(name);
    names[name] = false;
  }
  void store(const std::string& name) {
    stored.insert(name);
    if (!names.contains(name)) names[name] = !(parent && parent->knows(name));
  }
  /// What branches stored, perhaps one of them only, is looked up outside until then.
  void join(const std::vector<Symbols>& branches) {
    std::set<std::string> anew;
    for (const Symbols& branch : branches) anew.insert(branch.stored.begin(), branch.stored.end());
    for (const std::string& name : stored) anew.erase(name);
    for (const Symbols& branch : branches) {
      for (const auto& [name, hides] : branch.names) names[name] = hides;
      stored.insert(branch.stored.begin(), branch.stored.end());
    }
    for (const std::string& name : anew) names[name] = false;
  }
};

void read(Symbols& symbols, const Expr& expr) {
  if (expr.kind == ExprKind::kName) symbols.load(expr.name);
  for (const ExprPtr& kid : expr.kids) read(symbols, *kid);
  for (const Argument& argument : expr.arguments) read(symbols, *argument.value);
}

void write(Symbols& symbols, const Target& target, bool parameter) {
  for (const Target& part : target.parts) write(symbols, part, parameter);
  if (target.tuple) return;
  if (!target.attribute.empty()) {
    symbols.load(target.name);
  } else if (parameter) {
    symbols.parameter(target.name);
  } else {
    symbols.store(target.name);
  }
}

void note(Symbols& symbols, const Body& body);

void note_if(Symbols& symbols, const Statement& statement, size_t from) {
  read(symbols, *statement.exprs[from]);
  const size_t conditions = statement.exprs.size();
  std::vector<Symbols> branches(3, symbols);
  note(branches[0], statement.bodies[from]);
  for (size_t i = from + 1; i < conditions; ++i) {
    read(branches[1], *statement.exprs[i]);
    std::vector<Symbols> one(1, branches[1]);
    note(one[0], statement.bodies[i]);
    branches[1].join(one);
  }
  if (statement.has_else) note(branches[2], statement.bodies.back());
  symbols.join(branches);
}

/// The names of a scope's own statements, without those of the scopes within.
void note(Symbols& symbols, const Statement& statement) {
  switch (statement.kind) {
    case StatementKind::kIf:
      return note_if(symbols, statement, 0);
    case StatementKind::kMacro:
      return symbols.store(statement.text);
    case StatementKind::kSetBlock:
      return write(symbols, statement.targets[0], false);
    case StatementKind::kWith:
      for (const ExprPtr& value : statement.exprs) read(symbols, *value);
      return;
    case StatementKind::kSet:
      read(symbols, *statement.expr);
      return write(symbols, statement.targets[0], false);
    default:
      if (statement.expr) read(symbols, *statement.expr);
  }
}

void note(Symbols& symbols, const Body& body) {
  for (const Statement& statement : body) note(symbols, statement);
}

std::vector<std::string> hidden(const Symbols& symbols) {
  std::vector<std::string> names;
  for (const auto& [name, hides] : symbols.names) {
    if (hides) names.push_back(name);
  }
  return names;
}

void visit(const Symbols& symbols, Body& body);

/// The scopes that a statement opens, within that of `outer`.
void visit(const Symbols& outer, Statement& statement) {
  if (statement.kind == StatementKind::kIf) {
    for (Body& body : statement.bodies) visit(outer, body);
    return;
  }
  for (Body& body : statement.bodies) {
    Symbols symbols;
    symbols.parent = &outer;
    const bool is_else = statement.kind == StatementKind::kFor && &body != &statement.bodies.front();
    const bool binds = statement.kind == StatementKind::kFor || statement.kind == StatementKind::kWith;
    if (binds && !is_else) {
      if (statement.kind == StatementKind::kFor) symbols.parameter("loop");
      for (const Target& target : statement.targets) write(symbols, target, true);
    }
    const Signature& signature = statement.signature;
    for (const std::string& name : signature.names) symbols.parameter(name);
    if (signature.takes_caller) symbols.parameter("caller");
    if (signature.takes_varargs) symbols.parameter("varargs");
    if (signature.takes_kwargs) symbols.parameter("kwargs");
    for (const ExprPtr& fallback : signature.defaults) read(symbols, *fallback);
    if (statement.kind == StatementKind::kFilterBlock) read(symbols, *statement.expr);
    note(symbols, body);
    statement.hidden.push_back(hidden(symbols));
    visit(symbols, body);
  }
}

void visit(const Symbols& symbols, Body& body) {
  for (Statement& statement : body) visit(symbols, statement);
}
}  // namespace

void find_hidden_names(Template& made) {
  Symbols symbols;
  note(symbols, made.body);
  made.hidden = hidden(symbols);
  visit(symbols, made.body);
}

}  // namespace llmtool::jinja
