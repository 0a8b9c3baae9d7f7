#include <algorithm>
#include <set>

#include "llmtool/core/error.h"
#include "text/template_ast.h"
#include "text/template_eval.h"
#include "text/template_loop.h"
#include "text/template_unicode.h"

namespace llmtool::jinja {

Bound::Bound(const Arguments& arguments, const char* function, std::initializer_list<const char*> names,
             size_t required)
    : function_(function), values_(names.size()) {
  if (arguments.positional.size() > names.size())
    fail(cat(function, " takes at most ", names.size(), " arguments, found ", arguments.positional.size()));
  for (size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto at = std::find(names.begin(), names.end(), name);
    if (at == names.end() || name.empty()) fail(cat(function, " takes no argument '", name, "'"));
    const Value*& place = values_[static_cast<size_t>(at - names.begin())];
    if (place) fail(cat(function, ": two values for the argument '", name, "'"));
    place = &value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (!values_[i]) fail(cat(function, " lacks its argument ", i + 1));
  }
}

int64_t Bound::integer(size_t i, int64_t fallback) const {
  return has(i) ? required_integer(*values_[i], function_) : fallback;
}

namespace {
using Method = Value (*)(Heap&, const Value&, Arguments&);

Value bind(Heap& heap, const Value& self, const std::string& name, Method method) {
  Value function = heap.function(name, self.depth(), [self, method](Heap& h, Arguments& arguments) {
    return method(h, self, arguments);
  });
  function.as<FunctionObject>().shown = cat("<built-in method ", name, " of ", type_name(self), " object>");
  return function;
}

Value unsafe(Heap& heap, const Value& object, const std::string& name) {
  return heap.undefined(
      cat("access to attribute ", string_repr(name), " of '", type_name(object), "' object is unsafe."));
}

Value dict_get(Heap& heap, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "get()", {"", ""}, 1);
  require_hashable(heap, bound[0]);
  const Value* found = self.dict().find(bound[0]);
  return found ? *found : bound.has(1) ? bound[1] : Value::none();
}

template <ViewKind kView>
Value dict_view(Heap& heap, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "a dict's view", {});
  auto view = heap.make<ViewObject>();
  heap.nest(*view, self.depth());
  view->dict = self;
  view->view = kView;
  return Value(Kind::kView, std::move(view));
}

Value copy(Heap&, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "copy()", {});
  return self;  // nothing can change it
}

Value sequence_index(Heap& heap, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "index()", {"", "", ""}, 1);
  const Values items = to_values(heap, self);
  const auto size = static_cast<int64_t>(items.size());
  const auto place = [&](size_t i, int64_t fallback) {
    const int64_t n = bound.integer(i, fallback);
    return std::clamp<int64_t>(n < 0 ? std::max(n, -size) + size : n, 0, size);
  };
  for (int64_t i = place(1, 0); i < place(2, size); ++i) {
    const Value& item = items[static_cast<size_t>(i)];
    if (same(item, bound[0]) || equal(heap, item, bound[0])) return Value(i);
  }
  fail(cat(represented(heap, bound[0]), " is not in the ", type_name(self)));
}

Value sequence_count(Heap& heap, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "count()", {""}, 1);
  int64_t n = 0;
  for (const Value& item : to_values(heap, self)) n += same(item, bound[0]) || equal(heap, item, bound[0]);
  return Value(n);
}

std::optional<Value> dict_attribute(Heap& heap, const Value& self, const std::string& name) {
  static const std::set<std::string> kUnsafe = {"clear", "pop", "popitem", "setdefault", "update"};
  if (kUnsafe.contains(name)) return unsafe(heap, self, name);
  if (name == "get") return bind(heap, self, name, dict_get);
  if (name == "items") return bind(heap, self, name, dict_view<ViewKind::kItems>);
  if (name == "keys") return bind(heap, self, name, dict_view<ViewKind::kKeys>);
  if (name == "values") return bind(heap, self, name, dict_view<ViewKind::kValues>);
  if (name == "copy") return bind(heap, self, name, copy);
  if (name == "fromkeys") fail("dict.fromkeys is not supported");
  return {};
}

std::optional<Value> sequence_attribute(Heap& heap, const Value& self, const std::string& name) {
  static const std::set<std::string> kUnsafe = {"append", "clear", "pop",    "reverse",
                                                "insert", "sort",  "extend", "remove"};
  if (self.is(Kind::kList) && kUnsafe.contains(name)) return unsafe(heap, self, name);
  if (name == "index") return bind(heap, self, name, sequence_index);
  if (name == "count") return bind(heap, self, name, sequence_count);
  if (name == "copy" && self.is(Kind::kList)) return bind(heap, self, name, copy);
  if (self.is(Kind::kRange)) {
    const auto& range = self.as<RangeObject>();
    if (name == "start") return Value(range.start);
    if (name == "stop") return Value(range.stop);
    if (name == "step") return Value(range.step);
  } else if (self.as<ListObject>().group) {
    if (name == "grouper") return self.items()[0];
    if (name == "list") return self.items()[1];
  }
  return {};
}

std::optional<Value> number_attribute(const Value& self, const std::string& name) {
  static const std::set<std::string> kKnown = {
      "real",       "imag", "numerator", "denominator",      "conjugate", "bit_length", "bit_count",
      "is_integer", "hex",  "fromhex",   "as_integer_ratio", "to_bytes",  "from_bytes"};
  if (kKnown.contains(name))
    fail(cat("the attribute '", name, "' of ", type_name(self), " is not supported"));
  return {};
}

Value cycler_next(Heap&, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "next()", {});
  auto& cycler = self.as<CyclerObject>();
  const size_t at = cycler.at;
  cycler.at = (at + 1) % cycler.items.size();
  return cycler.items[at];
}
Value cycler_reset(Heap&, const Value& self, Arguments& arguments) {
  const Bound bound(arguments, "reset()", {});
  self.as<CyclerObject>().at = 0;
  return Value::none();
}
std::optional<Value> cycler_attribute(Heap& heap, const Value& self, const std::string& name) {
  const auto& cycler = self.as<CyclerObject>();
  if (name == "current") return cycler.items[cycler.at];
  if (name == "next") return bind(heap, self, name, cycler_next);
  if (name == "reset") return bind(heap, self, name, cycler_reset);
  if (name == "items") return heap.tuple(cycler.items);
  if (name == "pos") return Value(static_cast<int64_t>(cycler.at));
  return {};
}

Value no_attribute(Heap& heap, const Value& object, const Value& key) {
  const std::string owner = object.is(Kind::kNone) ? "None" : cat(type_name(object), " object");
  if (key.is(Kind::kString))
    return heap.undefined(cat("'", owner, "' has no attribute ", string_repr(key.text())));
  return heap.undefined(cat(owner, " has no element ", represented(heap, key)));
}

/// obj[key] where Python's own type knows it.
std::optional<Value> subscript(Heap& heap, const Value& object, const Value& key) {
  if (object.is(Kind::kDict)) {
    if (!hashable(heap, key)) return {};
    heap.work(key.is(Kind::kString) ? key.text().size() : 1);
    const Value* found = object.dict().find(key);
    return found ? std::optional(*found) : std::nullopt;
  }
  const bool sequence = object.is(Kind::kString) || object.is_array() || object.is(Kind::kRange);
  if (!sequence || !key.is_integral()) return {};
  const int64_t size = *length(object), i = key.integer() < 0 ? key.integer() + size : key.integer();
  if (i < 0 || i >= size) return {};
  if (object.is(Kind::kString)) {
    const std::string& text = object.text();
    heap.work(text.size());
    size_t at = byte_offset(text, static_cast<size_t>(i));
    return heap.string(utf8(unicode::next(text, at)), object.markup());
  }
  if (object.is_array()) return object.items()[static_cast<size_t>(i)];
  return Value(slice(heap, object, Value(i), Value::none(), Value::none()).as<RangeObject>().start);
}

std::optional<Value> macro_attribute(Heap& heap, const FunctionObject& macro, const std::string& name) {
  if (!macro.signature) return {};
  if (name == "name") return heap.string(macro.name);
  if (name == "catch_kwargs") return Value(macro.signature->takes_kwargs);
  if (name == "catch_varargs") return Value(macro.signature->takes_varargs);
  if (name == "caller") return Value(macro.signature->takes_caller);
  if (name != "arguments") return {};
  Values names;
  for (const std::string& argument : macro.signature->names) names.push_back(heap.string(argument));
  return heap.tuple(std::move(names));
}
}  // namespace

std::optional<Value> native_attribute(Heap& heap, const Value& object, const std::string& name) {
  if (name.starts_with("__") && name.ends_with("__")) return unsafe(heap, object, name);
  switch (object.kind()) {
    case Kind::kString:
      return string_method(heap, object, name);
    case Kind::kDict:
      return dict_attribute(heap, object, name);
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kRange:
      return sequence_attribute(heap, object, name);
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kFloat:
      return number_attribute(object, name);
    case Kind::kCycler:
      return cycler_attribute(heap, object, name);
    case Kind::kLoop:
      return loop_attribute(heap, object, name);
    case Kind::kFunction:
      return macro_attribute(heap, object.as<FunctionObject>(), name);
    case Kind::kNamespace:
      for (const auto& [key, value] : object.as<NamespaceObject>().items) {
        if (key == name) return value;
      }
      return {};
    default:
      return {};
  }
}

Value attribute(Heap& heap, const Value& object, const std::string& name) {
  heap.step();
  if (object.is(Kind::kUndefined)) fail_undefined(object);
  if (auto native = native_attribute(heap, object, name)) return *native;
  if (object.is(Kind::kDict)) {
    if (const Value* found = object.dict().find(std::string_view(name))) return *found;
  }
  return no_attribute(heap, object, heap.string(name));
}

Value item(Heap& heap, const Value& object, const Value& key) {
  heap.step();
  if (object.is(Kind::kUndefined)) fail_undefined(object);
  if (auto found = subscript(heap, object, key)) return *found;
  if (key.is(Kind::kString)) {
    if (auto native = native_attribute(heap, object, key.text())) return *native;
  }
  return no_attribute(heap, object, key);
}

}  // namespace llmtool::jinja
