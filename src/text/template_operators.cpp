#include <algorithm>
#include <cmath>
#include <cstdint>

#include "llmtool/core/error.h"
#include "text/template_eval.h"
#include "text/template_unicode.h"

namespace llmtool::jinja {

namespace {
constexpr const char* kSymbols[] = {
    "+", "-", "*", "/", "//", "%", "**", "==", "!=", "<", "<=", ">", ">=", "in", "not in"};
const char* symbol(Operator op) { return kSymbols[static_cast<size_t>(op)]; }

[[noreturn]] void unsupported(Operator op, const Value& a, const Value& b) {
  if (a.is(Kind::kUndefined)) fail_undefined(a);
  if (b.is(Kind::kUndefined)) fail_undefined(b);
  fail(cat("unsupported operand types for ", symbol(op), ": '", type_name(a), "' and '", type_name(b), "'"));
}
[[noreturn]] void overflow(Operator op) { fail(cat("the result of ", symbol(op), " does not fit 64 bits")); }

Value integer_power(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) fail("0 cannot be raised to a negative power");
    return Value(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  int64_t result = 1, factor = base;
  for (; exponent > 0; exponent >>= 1) {
    if ((exponent & 1) && __builtin_mul_overflow(result, factor, &result)) overflow(Operator::kPower);
    if (exponent > 1 && __builtin_mul_overflow(factor, factor, &factor)) overflow(Operator::kPower);
  }
  return Value(result);
}

Value integers(Operator op, int64_t a, int64_t b) {
  int64_t result = 0;
  if (op == Operator::kAdd && !__builtin_add_overflow(a, b, &result)) return Value(result);
  if (op == Operator::kSubtract && !__builtin_sub_overflow(a, b, &result)) return Value(result);
  if (op == Operator::kMultiply && !__builtin_mul_overflow(a, b, &result)) return Value(result);
  if (op == Operator::kPower) return integer_power(a, b);
  if (op < Operator::kDivide) overflow(op);
  if (b == 0) fail("division by zero");
  if (op == Operator::kDivide)
    return Value(static_cast<double>(static_cast<long double>(a) / static_cast<long double>(b)));
  if (b == -1) {  // where INT64_MIN has no quotient
    if (op == Operator::kModulo) return Value(int64_t{0});
    if (a == INT64_MIN) overflow(op);
    return Value(-a);
  }
  const int64_t quotient = a / b, rest = a % b;
  const bool down = rest != 0 && (rest < 0) != (b < 0);
  return Value(op == Operator::kModulo ? (down ? rest + b : rest) : (down ? quotient - 1 : quotient));
}

/// As CPython's float_divmod.
Value divide_floats(Operator op, double a, double b) {
  double rest = std::fmod(a, b);
  double quotient = (a - rest) / b;
  if (rest != 0) {
    if ((b < 0) != (rest < 0)) {
      rest += b;
      quotient -= 1;
    }
  } else {
    rest = std::copysign(0.0, b);
  }
  if (op == Operator::kModulo) return Value(rest);
  if (quotient == 0) return Value(std::copysign(0.0, a / b));
  const double whole = std::floor(quotient);
  return Value(quotient - whole > 0.5 ? whole + 1 : whole);
}

Value float_power(double a, double b) {
  if (a == 0 && b < 0) fail("0.0 cannot be raised to a negative power");
  const double result = std::pow(a, b);
  if (std::isnan(result) && !std::isnan(a) && !std::isnan(b)) fail("complex numbers are not supported");
  if (std::isinf(result) && std::isfinite(a) && std::isfinite(b)) fail("the result of ** is out of range");
  return Value(result);
}

Value floats(Operator op, double a, double b) {
  switch (op) {
    case Operator::kAdd:
      return Value(a + b);
    case Operator::kSubtract:
      return Value(a - b);
    case Operator::kMultiply:
      return Value(a * b);
    case Operator::kPower:
      return float_power(a, b);
    default:
      break;
  }
  if (b == 0) fail("float division by zero");
  return op == Operator::kDivide ? Value(a / b) : divide_floats(op, a, b);
}

Value repeat(Heap& heap, const Value& sequence, int64_t times) {
  const uint64_t n = times > 0 ? static_cast<uint64_t>(times) : 0;
  if (sequence.is(Kind::kString)) {
    Builder out(heap);
    out.repeat(sequence.text(), n);
    return out.value(sequence.markup());
  }
  const Values& items = sequence.items();
  if (items.empty() || n == 0) return sequence.is(Kind::kList) ? heap.list({}) : heap.tuple({});
  if (n > Heap::kMaxBytes) heap.room(n);
  heap.room(items.size() * n * sizeof(Value));
  Values all;
  for (uint64_t i = 0; i < n; ++i) {
    heap.step(1 + items.size() / 4);
    all.insert(all.end(), items.begin(), items.end());
  }
  return sequence.is(Kind::kList) ? heap.list(std::move(all)) : heap.tuple(std::move(all));
}

Value concatenate(Heap& heap, const Value& a, const Value& b) {
  if (a.is(Kind::kString)) {
    Builder out(heap);
    const bool markup = a.markup() || b.markup();
    out.add(markup && !a.markup() ? escaped(a.text()) : a.text());
    out.add(markup && !b.markup() ? escaped(b.text()) : b.text());
    return out.value(markup);
  }
  heap.room((a.items().size() + b.items().size()) * sizeof(Value));
  Values all = a.items();
  all.insert(all.end(), b.items().begin(), b.items().end());
  return a.is(Kind::kList) ? heap.list(std::move(all)) : heap.tuple(std::move(all));
}

bool is_sequence(const Value& v) { return v.is(Kind::kString) || v.is_array(); }
}  // namespace

Value arithmetic(Heap& heap, Operator op, const Value& a, const Value& b) {
  heap.step();
  if (op == Operator::kModulo && a.is(Kind::kString)) return format_percent(heap, a, b);
  if (a.is_integral() && b.is_integral()) return integers(op, a.integer(), b.integer());
  if (a.is_number() && b.is_number()) return floats(op, a.real(), b.real());
  if (op == Operator::kAdd && a.kind() == b.kind() && is_sequence(a)) return concatenate(heap, a, b);
  if (op == Operator::kMultiply && is_sequence(a) && b.is_integral()) return repeat(heap, a, b.integer());
  if (op == Operator::kMultiply && a.is_integral() && is_sequence(b)) return repeat(heap, b, a.integer());
  unsupported(op, a, b);
}

bool compare(Heap& heap, Operator op, const Value& a, const Value& b) {
  heap.step();
  switch (op) {
    case Operator::kEqual:
      return equal(heap, a, b);
    case Operator::kUnequal:
      return !equal(heap, a, b);
    case Operator::kIn:
      return contains(heap, b, a);
    case Operator::kNotIn:
      return !contains(heap, b, a);
    case Operator::kLess:
      return less(heap, a, b);
    case Operator::kGreater:
      return less(heap, b, a);
    case Operator::kLessEqual:
      return less(heap, a, b) || equal(heap, a, b);
    default:
      return less(heap, b, a) || equal(heap, a, b);
  }
}

Value negate(const Value& value) {
  if (value.is(Kind::kFloat)) return Value(-value.real());
  if (value.is(Kind::kUndefined)) fail_undefined(value);
  if (!value.is_integral()) fail(cat("bad operand type for unary -: '", type_name(value), "'"));
  if (value.integer() == INT64_MIN) overflow(Operator::kSubtract);
  return Value(-value.integer());
}

Value positive(const Value& value) {
  if (value.is(Kind::kFloat)) return value;
  if (value.is(Kind::kUndefined)) fail_undefined(value);
  if (!value.is_integral()) fail(cat("bad operand type for unary +: '", type_name(value), "'"));
  return Value(value.integer());
}

namespace {
struct Span {
  int64_t start, step, count;
};

int64_t bound(const Value& value, int64_t fallback, int64_t size, bool backward) {
  if (value.is(Kind::kNone)) return fallback;
  int64_t n = required_integer(value, "slice indices");
  const int64_t low = backward ? -1 : 0, high = backward ? size - 1 : size;
  if (n < 0) n = n < -size ? low : n + size;
  return std::clamp(n, low, std::max(low, high));
}

Span span(const Value& start, const Value& stop, const Value& step, int64_t size) {
  int64_t by = step.is(Kind::kNone) ? 1 : required_integer(step, "slice indices");
  if (by == 0) fail("slice step cannot be zero");
  const bool backward = by < 0;
  by = std::max(by, -INT64_MAX);
  const int64_t from = bound(start, backward ? size - 1 : 0, size, backward);
  const int64_t to = bound(stop, backward ? -1 : size, size, backward);
  const int64_t distance = backward ? from - to : to - from;
  return {from, by, distance > 0 ? (distance - 1) / std::abs(by) + 1 : 0};
}

Value slice_text(Heap& heap, const Value& text, const Span& part) {
  const std::string& bytes = text.text();
  heap.work(bytes.size());
  if (part.count == 0) return heap.string("", text.markup());
  if (part.step == 1) {
    const size_t from = unicode::is_ascii(bytes) ? static_cast<size_t>(part.start)
                                                 : byte_offset(bytes, static_cast<size_t>(part.start));
    const size_t size = byte_offset(std::string_view(bytes).substr(from), static_cast<size_t>(part.count));
    return heap.string(bytes.substr(from, size), text.markup());
  }
  heap.room(8 * bytes.size());
  const std::u32string all = decode(bytes);
  std::u32string kept;
  for (int64_t i = 0; i < part.count; ++i) kept += all[static_cast<size_t>(part.start + i * part.step)];
  return heap.string(encode(kept), text.markup());
}
}  // namespace

Value slice(Heap& heap, const Value& object, const Value& start, const Value& stop, const Value& step) {
  if (object.is(Kind::kUndefined)) fail_undefined(object);
  if (object.is(Kind::kDict)) fail("unhashable type: 'slice'");
  if (!is_sequence(object) && !object.is(Kind::kRange))
    fail(cat("'", type_name(object), "' object is not subscriptable"));
  const Span part = span(start, stop, step, *length(object));
  if (object.is(Kind::kString)) return slice_text(heap, object, part);
  if (object.is(Kind::kRange)) {
    const auto& range = object.as<RangeObject>();
    const auto wrapped = [](int64_t n) { return static_cast<uint64_t>(n); };
    const auto at = [&](int64_t i) {
      return static_cast<int64_t>(wrapped(range.start) + wrapped(i) * wrapped(range.step));
    };
    int64_t by = 0;
    if (__builtin_mul_overflow(range.step, part.step, &by)) overflow(Operator::kMultiply);
    const int64_t to = bound(stop, part.step < 0 ? -1 : range.size(), range.size(), part.step < 0);
    return heap.range(at(part.start), at(to), by);
  }
  Values kept;
  for (int64_t i = 0; i < part.count; ++i)
    kept.push_back(object.items()[static_cast<size_t>(part.start + i * part.step)]);
  return object.is(Kind::kList) ? heap.list(std::move(kept)) : heap.tuple(std::move(kept));
}

}  // namespace llmtool::jinja
