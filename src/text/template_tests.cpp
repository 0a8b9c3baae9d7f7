#include <unordered_map>

#include "llmtool/core/error.h"
#include "text/template_eval.h"
#include "text/template_unicode.h"

namespace llmtool::jinja {

namespace {
using TestFunction = bool (*)(Heap&, const Value&, Arguments&);

/// A test of the value alone.
template <bool (*kIs)(Heap&, const Value&)>
bool plain(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "the test", {});
  return kIs(heap, value);
}
template <Kind kKind>
bool is_kind(Heap&, const Value& value) {
  return value.is(kKind);
}
bool is_defined(Heap&, const Value& value) { return !value.is(Kind::kUndefined); }
bool is_number_test(Heap&, const Value& value) { return value.is_number(); }
bool is_true(Heap&, const Value& value) { return value.is(Kind::kBool) && value.integer() != 0; }
bool is_false(Heap&, const Value& value) { return value.is(Kind::kBool) && value.integer() == 0; }
bool is_callable(Heap&, const Value& value) {
  return value.is(Kind::kFunction) || value.is(Kind::kLoop) || value.is(Kind::kUndefined);
}
bool is_iterable(Heap& heap, const Value& value) {
  return value.is(Kind::kLoop) || iterate(heap, value).has_value();
}
bool is_sequence_test(Heap&, const Value& value) { return length(value) && !value.is(Kind::kView); }
bool is_escaped(Heap&, const Value& value) { return value.markup(); }
bool remainder_is(Heap& heap, const Value& value, const Value& divisor, int64_t wanted) {
  return equal(heap, arithmetic(heap, Operator::kModulo, value, divisor), Value(wanted));
}
bool is_odd(Heap& heap, const Value& value) { return remainder_is(heap, value, Value(int64_t{2}), 1); }
bool is_even(Heap& heap, const Value& value) { return remainder_is(heap, value, Value(int64_t{2}), 0); }
bool known_filter(Heap& heap, const Value& value) {
  require_hashable(heap, value);
  return value.is(Kind::kString) && has_filter(value.text());
}
bool known_test(Heap& heap, const Value& value) {
  require_hashable(heap, value);
  return value.is(Kind::kString) && has_test(value.text());
}

bool cased(Heap& heap, const Value& value, const char* method) {
  Arguments none;
  return truth(heap, call(heap, *string_method(heap, heap.string(printed(heap, value)), method), none));
}
bool is_lower_test(Heap& heap, const Value& value) { return cased(heap, value, "islower"); }
bool is_upper_test(Heap& heap, const Value& value) { return cased(heap, value, "isupper"); }

template <Operator kOp>
bool compares(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "the test", {kOp == Operator::kIn ? "seq" : ""}, 1);
  return compare(heap, kOp, value, bound[0]);
}
bool divisibleby(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "divisibleby", {"num"}, 1);
  return remainder_is(heap, value, bound[0], 0);
}
bool sameas(Heap&, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "sameas", {"other"}, 1);
  return same(value, bound[0]);
}

const std::unordered_map<std::string, TestFunction> kTests = {
    {"boolean", plain<is_kind<Kind::kBool>>},
    {"callable", plain<is_callable>},
    {"defined", plain<is_defined>},
    {"divisibleby", divisibleby},
    {"escaped", plain<is_escaped>},
    {"even", plain<is_even>},
    {"false", plain<is_false>},
    {"filter", plain<known_filter>},
    {"float", plain<is_kind<Kind::kFloat>>},
    {"in", compares<Operator::kIn>},
    {"integer", plain<is_kind<Kind::kInt>>},
    {"iterable", plain<is_iterable>},
    {"lower", plain<is_lower_test>},
    {"mapping", plain<is_kind<Kind::kDict>>},
    {"none", plain<is_kind<Kind::kNone>>},
    {"number", plain<is_number_test>},
    {"odd", plain<is_odd>},
    {"sameas", sameas},
    {"sequence", plain<is_sequence_test>},
    {"string", plain<is_kind<Kind::kString>>},
    {"test", plain<known_test>},
    {"true", plain<is_true>},
    {"undefined", plain<is_kind<Kind::kUndefined>>},
    {"upper", plain<is_upper_test>},
    {"==", compares<Operator::kEqual>},
    {"eq", compares<Operator::kEqual>},
    {"equalto", compares<Operator::kEqual>},
    {"!=", compares<Operator::kUnequal>},
    {"ne", compares<Operator::kUnequal>},
    {">", compares<Operator::kGreater>},
    {"gt", compares<Operator::kGreater>},
    {"greaterthan", compares<Operator::kGreater>},
    {">=", compares<Operator::kGreaterEqual>},
    {"ge", compares<Operator::kGreaterEqual>},
    {"<", compares<Operator::kLess>},
    {"lt", compares<Operator::kLess>},
    {"lessthan", compares<Operator::kLess>},
    {"<=", compares<Operator::kLessEqual>},
    {"le", compares<Operator::kLessEqual>},
};
}  // namespace

bool has_test(const std::string& name) { return kTests.contains(name); }

bool call_test(Heap& heap, const std::string& name, const Value& value, Arguments& arguments) {
  const Deeper deeper(heap);
  heap.step();
  const auto test = kTests.find(name);
  if (test == kTests.end()) fail(cat("the test '", name, "' is not known"));
  return test->second(heap, value, arguments);
}

}  // namespace llmtool::jinja
