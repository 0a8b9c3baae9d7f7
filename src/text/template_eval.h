#pragma once
// What expressions are made of: operators, attributes, filters, tests and globals, each as Jinja's sandbox
// has it.

#include <initializer_list>
#include <string>

#include "text/template_value.h"

namespace llmtool::jinja {

enum class Operator : uint8_t {
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kPower,
  kEqual,
  kUnequal,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn,
};
Value arithmetic(Heap& heap, Operator op, const Value& a, const Value& b);
bool compare(Heap& heap, Operator op, const Value& a, const Value& b);
Value negate(const Value& value);
Value positive(const Value& value);

/// obj.name and obj[key], an undefined value where there is none; obj[start:stop:step].
Value attribute(Heap& heap, const Value& object, const std::string& name);
Value item(Heap& heap, const Value& object, const Value& key);
Value slice(Heap& heap, const Value& object, const Value& start, const Value& stop, const Value& step);
/// What Python's own type has under that name: a method; nothing where it has none.
std::optional<Value> native_attribute(Heap& heap, const Value& object, const std::string& name);
std::optional<Value> string_method(Heap& heap, const Value& text, const std::string& name);

/// Python's % on a string, and str.format.
Value format_percent(Heap& heap, const Value& format, const Value& values);
Value format_braces(Heap& heap, const Value& format, const Arguments& arguments);
/// As format(value, spec).
std::string format_value(Heap& heap, const Value& value, const std::string& spec);

bool has_filter(const std::string& name);
bool has_test(const std::string& name);
Value call_filter(Heap& heap, const std::string& name, const Value& value, Arguments& arguments);
bool call_test(Heap& heap, const std::string& name, const Value& value, Arguments& arguments);
/// range, dict, namespace, ...: an undefined value where there is none.
std::optional<Value> global(Heap& heap, const std::string& name);

std::string replaced(Heap& heap, std::string_view text, std::string_view from, std::string_view to,
                     int64_t times);
std::vector<std::string_view> split_lines(Heap& heap, std::string_view text, bool keep_ends);
/// Filled up to that many code points: 0 behind, 1 before, 2 on both sides.
std::string justified(Heap& heap, std::string_view text, int64_t width, std::string_view fill, int side);
std::string escaped(std::string_view text);                                 // for HTML
Value escape(Heap& heap, const Value& value);                               // markup
std::optional<int64_t> parse_integer(std::string_view text, int64_t base);  // int(text, base)
std::optional<double> parse_float(std::string_view text);                   // float(text)
Value round_value(const Value& value, int64_t digits);

/// The arguments of a call under their names, as Python binds them; a name of "" takes no keyword.
class Bound {
 public:
  Bound(const Arguments& arguments, const char* function, std::initializer_list<const char*> names,
        size_t required = 0);
  bool has(size_t i) const { return values_[i] != nullptr; }
  const Value& operator[](size_t i) const { return *values_[i]; }
  /// Absent or None.
  bool none(size_t i) const { return !has(i) || values_[i]->is(Kind::kNone); }
  int64_t integer(size_t i, int64_t fallback) const;
  bool truth(Heap& heap, size_t i) const { return has(i) && jinja::truth(heap, *values_[i]); }
  const std::string& text(size_t i) const { return required_text(*values_[i], function_); }

 private:
  const char* function_;
  std::vector<const Value*> values_;
};

using FilterFunction = Value (*)(Heap&, const Value&, Arguments&);
const FilterFunction* find_text_filter(const std::string& name);
const FilterFunction* find_sequence_filter(const std::string& name);
const FilterFunction* find_number_filter(const std::string& name);

}  // namespace llmtool::jinja
