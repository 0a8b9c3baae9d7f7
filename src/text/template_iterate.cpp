#include <algorithm>

#include "llmtool/core/error.h"
#include "text/template_eval.h"
#include "text/template_unicode.h"
#include "text/template_value.h"

namespace llmtool::jinja {

std::optional<int64_t> length(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
      return static_cast<int64_t>(unicode::length(value.text()));
    case Kind::kList:
    case Kind::kTuple:
      return static_cast<int64_t>(value.items().size());
    case Kind::kDict:
      return static_cast<int64_t>(value.dict().items.size());
    case Kind::kView:
      return length(value.as<ViewObject>().dict);
    case Kind::kRange:
      return value.as<RangeObject>().size();
    default:
      return {};
  }
}

int64_t required_length(const Value& value) {
  const auto n = length(value);
  if (!n) fail(cat("object of type '", type_name(value), "' has no len()"));
  return *n;
}

namespace {
Value characters(Heap& heap, const Value& text) {
  size_t at = 0;
  return heap.generator(text.depth(), [&heap, text, at](Value& out) mutable {
    const std::string& bytes = text.text();
    if (at >= bytes.size()) return false;
    const size_t start = at;
    unicode::next(bytes, at);
    out = heap.string(bytes.substr(start, at - start));  // Python's, too, forgets the markup here
    return true;
  });
}

Value entries(Heap& heap, const Value& dict, ViewKind view) {
  size_t at = 0;
  return heap.generator(dict.depth(), [&heap, dict, view, at](Value& out) mutable {
    const auto& items = dict.dict().items;
    if (at >= items.size()) return false;
    const auto& [key, value] = items[at++];
    out = view == ViewKind::kKeys ? key : view == ViewKind::kValues ? value : heap.pair(key, value);
    return true;
  });
}
}  // namespace

std::optional<Value> iterate(Heap& heap, const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return heap.generator(0, [](Value&) { return false; });
    case Kind::kString:
      return characters(heap, value);
    case Kind::kList:
    case Kind::kTuple: {
      size_t at = 0;
      return heap.generator(value.depth(), [value, at](Value& out) mutable {
        if (at >= value.items().size()) return false;
        out = value.items()[at++];
        return true;
      });
    }
    case Kind::kDict:
      return entries(heap, value, ViewKind::kKeys);
    case Kind::kView:
      return entries(heap, value.as<ViewObject>().dict, value.as<ViewObject>().view);
    case Kind::kRange: {
      int64_t at = 0;
      return heap.generator(value.depth(), [value, at](Value& out) mutable {
        const auto& range = value.as<RangeObject>();
        if (at >= range.size()) return false;
        const auto wrapped = [](int64_t n) {
          return static_cast<uint64_t>(n);
        };  // a product may pass 64 bits
        out = Value(static_cast<int64_t>(wrapped(range.start) + wrapped(at++) * wrapped(range.step)));
        return true;
      });
    }
    case Kind::kGenerator:
      return value;
    default:
      return {};
  }
}

Value required_iterator(Heap& heap, const Value& value) {
  auto iterator = iterate(heap, value);
  if (!iterator) fail(cat("'", type_name(value), "' object is not iterable"));
  return *iterator;
}

bool next(Heap& heap, const Value& generator, Value& out) {
  const Deeper deeper(heap);
  heap.step();
  auto& object = generator.as<GeneratorObject>();
  if (!object.next) return false;
  const std::shared_ptr<Object> alive = generator.object();
  auto advance = std::move(object.next);  // a generator that asks itself finds nothing
  object.next = nullptr;
  const bool more = advance(out);
  if (more) object.next = std::move(advance);
  return more;
}

Values to_values(Heap& heap, const Value& iterable) {
  if (iterable.is_array()) {
    heap.step(iterable.items().size());
    return iterable.items();
  }
  const Value iterator = required_iterator(heap, iterable);
  Values items;
  for (Value item; next(heap, iterator, item);) {
    items.push_back(item);
    heap.room(items.size() * sizeof(Value));
  }
  return items;
}

bool contains(Heap& heap, const Value& container, const Value& item) {
  if (container.is(Kind::kString)) {
    if (item.is(Kind::kUndefined) || !item.is(Kind::kString))
      fail(cat("'in <string>' requires string as left operand, not ", type_name(item)));
    heap.work(container.text().size());
    return find(container.text(), item.text()) != std::string::npos;
  }
  const bool keys = container.is(Kind::kView) && container.as<ViewObject>().view == ViewKind::kKeys;
  if (container.is(Kind::kDict) || keys) {
    require_hashable(heap, item);
    heap.work(item.is(Kind::kString) ? item.text().size() : 1);
    return (keys ? container.as<ViewObject>().dict : container).dict().find(item) != nullptr;
  }
  const auto iterator = iterate(heap, container);
  if (!iterator) fail(cat("argument of type '", type_name(container), "' is not iterable"));
  for (Value candidate; next(heap, *iterator, candidate);) {
    if (same(candidate, item) || equal(heap, candidate, item)) return true;
  }
  return false;
}

Value call(Heap& heap, const Value& callee, Arguments& arguments) {
  if (callee.is(Kind::kUndefined)) fail_undefined(callee);
  if (callee.is(Kind::kLoop)) fail("a loop that calls itself ('recursive') is not supported");
  if (!callee.is(Kind::kFunction)) fail(cat("'", type_name(callee), "' object is not callable"));
  const Deeper deeper(heap);
  heap.step();
  const std::shared_ptr<Object> alive = callee.object();
  const auto& function = callee.as<FunctionObject>();
  if (!function.call) fail(cat(function.name, " can no longer be called"));
  return function.call(heap, arguments);
}

}  // namespace llmtool::jinja
