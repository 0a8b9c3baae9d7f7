#pragma once
// The values of a chat template: Python's, as far as templates see them, and the heap that bounds them.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace llmtool::jinja {

/// What a template did wrong; rendering adds the place to it.
class Fault : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};
[[noreturn]] void fail(const std::string& message);

enum class Kind : uint8_t {
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kTuple,
  kDict,
  kView,
  kRange,
  kGenerator,
  kNamespace,
  kFunction,
  kLoop,
  kCycler,
};

class Heap;

/// What a value shares with its copies. Nothing but a namespace, a generator, a loop or a cycler ever
/// changes.
struct Object {
  Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object();
  virtual void clear() {}  // lets go of what may form a circle
  Heap* heap = nullptr;    // who gets `bytes` back
  size_t bytes = 0;
  int depth = 0;  // levels of objects below this one
};

struct StringObject;
struct ListObject;
struct DictObject;

class Value {
 public:
  Value() = default;  // undefined, without a name
  explicit Value(bool b) : kind_(Kind::kBool), int_(b) {}
  explicit Value(int64_t i) : kind_(Kind::kInt), int_(i) {}
  explicit Value(double f) : kind_(Kind::kFloat), float_(f) {}
  Value(Kind kind, std::shared_ptr<Object> object) : kind_(kind), object_(std::move(object)) {}
  static Value none() { return Value(Kind::kNone, nullptr); }

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_integral() const { return kind_ == Kind::kInt || kind_ == Kind::kBool; }
  bool is_number() const { return is_integral() || kind_ == Kind::kFloat; }
  bool is_array() const { return kind_ == Kind::kList || kind_ == Kind::kTuple; }
  int64_t integer() const { return int_; }  // of a kInt or kBool
  double real() const { return kind_ == Kind::kFloat ? float_ : static_cast<double>(int_); }
  const std::string& text() const;          // of a kString
  bool markup() const;                      // a string that is safe in HTML
  const std::vector<Value>& items() const;  // of a kList or kTuple
  const DictObject& dict() const;           // of a kDict
  template <class T>
  T& as() const {
    return static_cast<T&>(*object_);
  }
  const std::shared_ptr<Object>& object() const { return object_; }
  int depth() const { return object_ ? object_->depth + 1 : 0; }

 private:
  Kind kind_ = Kind::kUndefined;
  union {
    int64_t int_ = 0;
    double float_;
  };
  std::shared_ptr<Object> object_;
};

using Values = std::vector<Value>;

struct UndefinedObject : Object {
  std::string message;
};
struct StringObject : Object {
  std::string text;  // UTF-8
  bool markup = false;
};
struct ListObject : Object {
  Values items;
  bool group = false;  // groupby's (grouper, list)
};

/// The order of keys in an index: equal where Python holds keys equal.
struct KeyLess {
  bool operator()(const Value& a, const Value& b) const;
};
struct DictObject : Object {
  std::vector<std::pair<Value, Value>> items;  // in the order of insertion
  std::map<Value, size_t, KeyLess> index;      // of large ones
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  /// Adds or replaces.
  void set(const Value& key, const Value& value);
};
enum class ViewKind : uint8_t { kKeys, kValues, kItems };
struct ViewObject : Object {
  Value dict;
  ViewKind view = ViewKind::kKeys;
};
struct RangeObject : Object {
  int64_t start = 0, stop = 0, step = 1;
  int64_t size() const;
};
/// Items on demand, once.
struct GeneratorObject : Object {
  std::function<bool(Value&)> next;
  void clear() override { next = nullptr; }
};
struct NamespaceObject : Object {
  std::vector<std::pair<std::string, Value>> items;
  void clear() override { items.clear(); }
};
struct Arguments {
  Values positional;
  std::vector<std::pair<std::string, Value>> named;
};
struct Signature;
struct FunctionObject : Object {
  std::string name, shown;               // shown: what printing gives
  const Signature* signature = nullptr;  // of a macro
  std::function<Value(Heap&, Arguments&)> call;
  void clear() override { call = nullptr; }
};
struct CyclerObject : Object {
  Values items;
  size_t at = 0;
};

/// Bounds one rendering: steps, bytes held at a time, depth of calls and of values.
class Heap {
 public:
  static constexpr uint64_t kMaxSteps = 3'000'000;
  static constexpr size_t kMaxBytes = size_t{64} << 20;
  static constexpr int kMaxNesting = 200;  // of values
  static constexpr int kMaxCalls = 1200;   // of nested evaluations
  Heap() = default;
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;
  ~Heap();

  /// A step takes some tenths of a microsecond; what takes longer counts as several.
  void step(uint64_t n = 1);
  /// Steps for work on that many bytes.
  void work(size_t n) { step(1 + n / 128); }
  /// Throws unless that many more bytes may be held.
  void room(size_t n) const;

  Value string(std::string text, bool markup = false);
  Value list(Values items) { return array(Kind::kList, std::move(items)); }
  Value tuple(Values items) { return array(Kind::kTuple, std::move(items)); }
  Value pair(const Value& a, const Value& b) { return tuple({a, b}); }
  Value dict(std::vector<std::pair<Value, Value>> items);
  Value undefined(std::string message);
  Value generator(int depth, std::function<bool(Value&)> next);
  Value function(std::string name, int depth, std::function<Value(Heap&, Arguments&)> call);
  Value range(int64_t start, int64_t stop, int64_t step);
  /// A new object, charged for itself and that many bytes more.
  template <class T>
  std::shared_ptr<T> make(size_t bytes = 0) {
    auto object = std::make_unique<T>();
    charge(*object, sizeof(T) + 64 + bytes);
    return std::shared_ptr<T>(object.release(), bury);
  }
  /// Clears the object at the end, as it may be part of a circle.
  void watch(const std::shared_ptr<Object>& object);
  void charge(Object& object, size_t bytes);
  void hold(size_t bytes) {
    room(bytes);
    held_ += bytes;
  }
  void release(size_t bytes) { held_ -= bytes; }
  void nest(Object& object, int depth_below) const;
  void enter();
  void leave() { --calls_; }

 private:
  Value array(Kind kind, Values items);
  uint64_t steps_ = 0;
  size_t held_ = 0;
  int calls_ = 0;
  /// Destroys the object, or leaves it for later where that nests deep.
  static void bury(Object* object);
  std::vector<std::weak_ptr<Object>> watched_;
  size_t prune_at_ = 1024;
  std::vector<Object*> graveyard_;
  int burials_ = 0;
};

/// One level of recursion.
class Deeper {
 public:
  explicit Deeper(Heap& heap) : heap_(heap) { heap.enter(); }
  ~Deeper() { heap_.leave(); }
  Deeper(const Deeper&) = delete;
  Deeper& operator=(const Deeper&) = delete;

 private:
  Heap& heap_;
};

/// Text that grows within the heap's bounds.
class Builder {
 public:
  explicit Builder(Heap& heap) : heap_(heap) {}
  Builder(const Builder&) = delete;
  Builder& operator=(const Builder&) = delete;
  ~Builder() { heap_.release(charged_); }
  Builder& add(std::string_view piece);
  Builder& repeat(std::string_view piece, uint64_t times);
  Heap& heap() { return heap_; }
  const std::string& text() const { return text_; }
  std::string take() {
    heap_.release(std::exchange(charged_, 0));
    return std::move(text_);
  }
  Value value(bool markup = false) { return heap_.string(take(), markup); }

 private:
  Heap& heap_;
  size_t charged_ = 0;
  std::string text_;
};

// Python's questions.
const char* type_name(const Value& value);  // "str", "dict", "NoneType"
bool truth(Heap& heap, const Value& value);
bool equal(Heap& heap, const Value& a, const Value& b);
bool same(const Value& a, const Value& b);  // `is`
bool less(Heap& heap, const Value& a, const Value& b);
bool contains(Heap& heap, const Value& container, const Value& item);
bool hashable(Heap& heap, const Value& key);
void require_hashable(Heap& heap, const Value& key);
std::optional<int64_t> length(const Value& value);  // nothing where Python has none
int64_t required_length(const Value& value);        // or throws
std::optional<Value> iterate(Heap&, const Value&);  // a generator; nothing where Python has none
Value required_iterator(Heap& heap, const Value& value);
Values to_values(Heap& heap, const Value& iterable);  // list(iterable)
bool next(Heap& heap, const Value& generator, Value& out);
Value call(Heap& heap, const Value& callee, Arguments& arguments);
/// An integer argument (a bool is one), or throws naming `what`.
int64_t required_integer(const Value& value, const char* what);
const std::string& required_text(const Value& value, const char* what);
[[noreturn]] void fail_undefined(const Value& undefined);

// Text of values.
void print(Builder& out, const Value& value);      // str()
void represent(Builder& out, const Value& value);  // repr()
std::string printed(Heap& heap, const Value& value);
std::string represented(Heap& heap, const Value& value);
std::string float_text(double value);
std::string string_repr(std::string_view text);
struct JsonStyle {
  bool ascii = false, sort = false, pretty = false;
  std::string indent, item_separator = ", ", key_separator = ": ";
};
void write_json(Builder& out, const Value& value, const JsonStyle& style);

}  // namespace llmtool::jinja
