#include "text/template_value.h"

#include <algorithm>
#include <cmath>

#include "llmtool/core/error.h"
#include "text/template_unicode.h"

namespace llmtool::jinja {

void fail(const std::string& message) { throw Fault(message); }

Object::~Object() {
  if (heap) heap->release(bytes);
}

const std::string& Value::text() const { return as<StringObject>().text; }
bool Value::markup() const { return kind_ == Kind::kString && as<StringObject>().markup; }
const Values& Value::items() const { return as<ListObject>().items; }
const DictObject& Value::dict() const { return as<DictObject>(); }

namespace {
constexpr size_t kIndexed = 8;  // entries of a dict from which on it has an index

int compare_numbers(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral())
    return a.integer() < b.integer() ? -1 : a.integer() > b.integer() ? 1 : 0;
  const auto exact = [](const Value& v) -> long double {
    return v.is_integral() ? static_cast<long double>(v.integer()) : static_cast<long double>(v.real());
  };
  const long double x = exact(a), y = exact(b);
  return x < y ? -1 : x > y ? 1 : 0;
}
bool not_a_number(const Value& v) { return v.is(Kind::kFloat) && std::isnan(v.real()); }

int rank(const Value& v) {
  return v.is_number()            ? 1
         : v.is(Kind::kString)    ? 2
         : v.is(Kind::kTuple)     ? 3
         : v.is(Kind::kNone)      ? 0
         : v.is(Kind::kUndefined) ? 5
                                  : 4;
}
int compare_keys(const Value& a, const Value& b) {
  if (rank(a) != rank(b)) return rank(a) < rank(b) ? -1 : 1;
  if (a.object() && a.object() == b.object()) return 0;
  if (a.is_number()) {
    if (not_a_number(a) || not_a_number(b)) return not_a_number(a) - not_a_number(b);
    return compare_numbers(a, b);
  }
  if (a.is(Kind::kString)) return a.text().compare(b.text());
  if (a.is(Kind::kTuple)) {
    for (size_t i = 0; i < std::min(a.items().size(), b.items().size()); ++i) {
      if (const int order = compare_keys(a.items()[i], b.items()[i])) return order;
    }
    return a.items().size() < b.items().size() ? -1 : a.items().size() > b.items().size() ? 1 : 0;
  }
  if (a.is(Kind::kUndefined)) return 0;
  return a.object() < b.object() ? -1 : b.object() < a.object() ? 1 : 0;
}
}  // namespace

bool KeyLess::operator()(const Value& a, const Value& b) const { return compare_keys(a, b) < 0; }

const Value* DictObject::find(const Value& key) const {
  if (!index.empty()) {
    const auto found = index.find(key);
    return found == index.end() ? nullptr : &items[found->second].second;
  }
  for (const auto& [k, v] : items) {
    if (compare_keys(k, key) == 0) return &v;
  }
  return nullptr;
}

const Value* DictObject::find(std::string_view key) const {
  if (index.empty()) {
    for (const auto& [k, v] : items) {
      if (k.is(Kind::kString) && k.text() == key) return &v;
    }
    return nullptr;
  }
  auto text = std::make_shared<StringObject>();
  text->text = key;
  return find(Value(Kind::kString, std::move(text)));
}

void DictObject::set(const Value& key, const Value& value) {
  if (const Value* old = find(key)) {
    *const_cast<Value*>(old) = value;  // one of our own items
    return;
  }
  items.emplace_back(key, value);
  if (!index.empty()) {
    index.emplace(key, items.size() - 1);
  } else if (items.size() > kIndexed) {
    for (size_t i = 0; i < items.size(); ++i) index.emplace(items[i].first, i);
  }
}

int64_t RangeObject::size() const {
  const auto span = [](int64_t low, int64_t high, uint64_t by) {
    return low >= high ? 0 : (static_cast<uint64_t>(high) - static_cast<uint64_t>(low) - 1) / by + 1;
  };
  const uint64_t n = step > 0 ? span(start, stop, static_cast<uint64_t>(step))
                              : span(stop, start, ~static_cast<uint64_t>(step) + 1);
  return static_cast<int64_t>(std::min<uint64_t>(n, INT64_MAX));
}

Heap::~Heap() {
  for (const auto& watched : watched_) {
    if (const auto object = watched.lock()) object->clear();
  }
}

void Heap::watch(const std::shared_ptr<Object>& object) {
  if (watched_.size() >= prune_at_) {
    std::erase_if(watched_, [](const auto& watched) { return watched.expired(); });
    prune_at_ = 2 * watched_.size() + 1024;
  }
  watched_.push_back(object);
}

void Heap::bury(Object* object) {
  constexpr int kMaxBurials = 50;
  Heap& heap = *object->heap;
  if (heap.burials_ >= kMaxBurials) {
    heap.graveyard_.push_back(object);
    return;
  }
  ++heap.burials_;
  delete object;
  while (heap.burials_ == 1 && !heap.graveyard_.empty()) {
    Object* const next = heap.graveyard_.back();
    heap.graveyard_.pop_back();
    delete next;
  }
  --heap.burials_;
}

void Heap::step(uint64_t n) {
  steps_ += n;
  if (steps_ > kMaxSteps) fail("the template runs too long");
}

void Heap::room(size_t n) const {
  if (n > kMaxBytes || held_ > kMaxBytes - n)
    fail(cat("the template needs more than ", kMaxBytes >> 20, " MB of memory"));
}

void Heap::charge(Object& object, size_t bytes) {
  room(bytes);
  object.heap = this;
  object.bytes += bytes;
  held_ += bytes;
}

void Heap::nest(Object& object, int depth_below) const {
  object.depth = depth_below;
  if (depth_below >= kMaxNesting) fail(cat("values nest more than ", kMaxNesting, " levels deep"));
}

void Heap::enter() {
  if (++calls_ > kMaxCalls) {
    --calls_;
    fail("the template calls itself too deeply");
  }
}

Value Heap::string(std::string text, bool markup) {
  work(text.size());
  auto object = make<StringObject>(text.size());
  object->text = std::move(text);
  object->markup = markup;
  return Value(Kind::kString, std::move(object));
}

Value Heap::array(Kind kind, Values items) {
  step(1 + items.size() / 4);
  auto object = make<ListObject>(items.size() * sizeof(Value));
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  nest(*object, depth);
  object->items = std::move(items);
  return Value(kind, std::move(object));
}

Value Heap::dict(std::vector<std::pair<Value, Value>> items) {
  step(1 + items.size());
  auto object = make<DictObject>(items.size() * (items.size() > kIndexed ? 160 : 64));
  int depth = 0;
  for (const auto& [key, value] : items) {
    depth = std::max({depth, value.depth(), key.depth()});
    require_hashable(*this, key);
    object->set(key, value);
  }
  nest(*object, depth);
  return Value(Kind::kDict, std::move(object));
}

Value Heap::undefined(std::string message) {
  auto object = make<UndefinedObject>(message.size());
  object->message = std::move(message);
  return Value(Kind::kUndefined, std::move(object));
}

Value Heap::generator(int depth, std::function<bool(Value&)> next) {
  auto object = make<GeneratorObject>();
  nest(*object, depth);
  object->next = std::move(next);
  watch(object);
  return Value(Kind::kGenerator, std::move(object));
}

Value Heap::function(std::string name, int depth, std::function<Value(Heap&, Arguments&)> call) {
  step(3);
  auto object = make<FunctionObject>();
  nest(*object, depth);
  object->shown = cat("<function ", name, ">");
  object->name = std::move(name);
  object->call = std::move(call);
  return Value(Kind::kFunction, std::move(object));
}

Value Heap::range(int64_t start, int64_t stop, int64_t step) {
  auto object = make<RangeObject>();
  object->start = start;
  object->stop = stop;
  object->step = step;
  return Value(Kind::kRange, std::move(object));
}

Builder& Builder::add(std::string_view piece) {
  heap_.work(piece.size());
  const size_t need = text_.size() + piece.size();
  if (need > charged_) {
    const size_t more = std::max(need, 2 * charged_) - charged_;
    heap_.hold(more);
    charged_ += more;
  }
  text_ += piece;
  return *this;
}

Builder& Builder::repeat(std::string_view piece, uint64_t times) {
  if (piece.empty()) return *this;
  if (times > Heap::kMaxBytes) heap_.room(Heap::kMaxBytes + 1);
  heap_.room(piece.size() * times);
  for (uint64_t i = 0; i < times; ++i) add(piece);
  return *this;
}

const char* type_name(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return value.markup() ? "Markup" : "str";
    case Kind::kList:
      return "list";
    case Kind::kTuple:
      return "tuple";
    case Kind::kDict:
      return "dict";
    case Kind::kView:
      return "dict view";
    case Kind::kRange:
      return "range";
    case Kind::kGenerator:
      return "generator";
    case Kind::kNamespace:
      return "Namespace";
    case Kind::kFunction:
      return "function";
    case Kind::kLoop:
      return "LoopContext";
    case Kind::kCycler:
      return "Cycler";
  }
  return "value";
}

namespace {
bool equal_items(Heap& heap, const Values& a, const Values& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!same(a[i], b[i]) && !equal(heap, a[i], b[i])) return false;
  }
  return true;
}
bool equal_dicts(Heap& heap, const DictObject& a, const DictObject& b) {
  if (a.items.size() != b.items.size()) return false;
  for (const auto& [key, value] : a.items) {
    const Value* other = b.find(key);
    if (!other || (!same(value, *other) && !equal(heap, value, *other))) return false;
  }
  return true;
}
bool equal_ranges(const RangeObject& a, const RangeObject& b) {
  const int64_t n = a.size();
  return n == b.size() && (n == 0 || (a.start == b.start && (n == 1 || a.step == b.step)));
}
}  // namespace

bool same(const Value& a, const Value& b) {
  if (a.kind() != b.kind()) return false;
  if (a.is_integral()) return a.integer() == b.integer();
  if (a.is(Kind::kNone)) return true;
  return a.object() && a.object() == b.object();
}

bool equal(Heap& heap, const Value& a, const Value& b) {
  const Deeper deeper(heap);
  heap.step();
  if (a.is_number() && b.is_number())
    return !not_a_number(a) && !not_a_number(b) && compare_numbers(a, b) == 0;
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kUndefined:
      return true;
    case Kind::kString:
      heap.work(std::min(a.text().size(), b.text().size()));
      return a.text() == b.text();
    case Kind::kList:
    case Kind::kTuple:
      return a.object() == b.object() || equal_items(heap, a.items(), b.items());
    case Kind::kDict:
      return a.object() == b.object() || equal_dicts(heap, a.dict(), b.dict());
    case Kind::kRange:
      return equal_ranges(a.as<RangeObject>(), b.as<RangeObject>());
    default:
      return same(a, b);
  }
}

bool less(Heap& heap, const Value& a, const Value& b) {
  const Deeper deeper(heap);
  heap.step();
  if (a.is_number() && b.is_number())
    return !not_a_number(a) && !not_a_number(b) && compare_numbers(a, b) < 0;
  if (a.is(Kind::kUndefined)) fail_undefined(a);
  if (b.is(Kind::kUndefined)) fail_undefined(b);
  if (a.is(Kind::kString) && b.is(Kind::kString)) {
    heap.work(std::min(a.text().size(), b.text().size()));
    return a.text() < b.text();
  }
  if (a.kind() != b.kind() || !a.is_array())
    fail(cat("'<' is not supported between '", type_name(a), "' and '", type_name(b), "'"));
  const Values &x = a.items(), &y = b.items();
  for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
    if (!same(x[i], y[i]) && !equal(heap, x[i], y[i])) return less(heap, x[i], y[i]);
  }
  return x.size() < y.size();
}

bool truth(Heap& heap, const Value& value) {
  (void)heap;
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return value.integer() != 0;
    case Kind::kFloat:
      return value.real() != 0;
    default:
      return length(value).value_or(1) != 0;
  }
}

bool hashable(Heap& heap, const Value& key) {
  heap.step();
  if (!key.is(Kind::kTuple)) return !key.is(Kind::kList) && !key.is(Kind::kDict);
  const Deeper deeper(heap);
  const Values& items = key.items();
  return std::all_of(items.begin(), items.end(), [&](const Value& item) { return hashable(heap, item); });
}

void require_hashable(Heap& heap, const Value& key) {
  if (!hashable(heap, key)) fail(cat("unhashable type: '", type_name(key), "'"));
}

int64_t required_integer(const Value& value, const char* what) {
  if (value.is(Kind::kUndefined)) fail_undefined(value);
  if (!value.is_integral()) fail(cat(what, ": expected an integer, found '", type_name(value), "'"));
  return value.integer();
}

const std::string& required_text(const Value& value, const char* what) {
  if (value.is(Kind::kUndefined)) fail_undefined(value);
  if (!value.is(Kind::kString)) fail(cat(what, ": expected a string, found '", type_name(value), "'"));
  return value.text();
}

void fail_undefined(const Value& undefined) {
  fail(undefined.object() ? undefined.as<UndefinedObject>().message : "the value is undefined");
}

}  // namespace llmtool::jinja
