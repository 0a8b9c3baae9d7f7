#include <chrono>
#include <cstdio>
#include <ctime>
#include <unordered_map>

#include "llmtool/core/error.h"
#include "text/template_eval.h"
#include "text/template_unicode.h"

namespace llmtool::jinja {

namespace {
using Function = Value (*)(Heap&, Arguments&);
constexpr int64_t kMaxRange = 100000;  // of Jinja's sandbox

Value range(Heap& heap, Arguments& arguments) {
  const Bound bound(arguments, "range()", {"", "", ""}, 1);
  const bool both = bound.has(1);
  const int64_t step = bound.integer(2, 1);
  if (step == 0) fail("range() arg 3 must not be zero");
  const Value made = heap.range(both ? bound.integer(0, 0) : 0, bound.integer(both ? 1 : 0, 0), step);
  if (*length(made) > kMaxRange)
    fail(cat("Range too big. The sandbox blocks ranges larger than MAX_RANGE (", kMaxRange, ")."));
  return made;
}

std::vector<std::pair<Value, Value>> pairs(Heap& heap, Arguments& arguments, const char* function) {
  if (arguments.positional.size() > 1) fail(cat(function, " expected at most 1 argument"));
  std::vector<std::pair<Value, Value>> items;
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    if (source.is(Kind::kUndefined)) fail_undefined(source);
    if (source.is(Kind::kDict)) {
      heap.step(source.dict().items.size());
      items = source.dict().items;
    } else {
      for (const Value& each : to_values(heap, source)) {
        const Values both = to_values(heap, each);
        if (both.size() != 2) fail(cat(function, ": a pair is needed, found ", both.size(), " values"));
        items.emplace_back(both[0], both[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.named) items.emplace_back(heap.string(name), value);
  return items;
}

Value dict(Heap& heap, Arguments& arguments) { return heap.dict(pairs(heap, arguments, "dict()")); }

Value make_namespace(Heap& heap, Arguments& arguments) {
  const Value all = heap.dict(pairs(heap, arguments, "namespace()"));
  auto space = heap.make<NamespaceObject>(all.dict().items.size() * 64);
  heap.watch(space);
  for (const auto& [key, value] : all.dict().items) {
    const std::string& name = required_text(key, "namespace()");
    if (name.starts_with("_")) fail(cat("a namespace cannot hold ", string_repr(name), ": it begins with _"));
    space->items.emplace_back(name, value);
  }
  return Value(Kind::kNamespace, space);
}

Value cycler(Heap& heap, Arguments& arguments) {
  if (!arguments.named.empty()) fail("cycler() takes no keyword arguments");
  if (arguments.positional.empty()) fail("at least one item has to be provided");
  auto object = heap.make<CyclerObject>(arguments.positional.size() * sizeof(Value));
  int depth = 0;
  for (const Value& v : arguments.positional) depth = std::max(depth, v.depth());
  heap.nest(*object, depth);
  object->items = arguments.positional;
  return Value(Kind::kCycler, object);
}

Value joiner(Heap& heap, Arguments& arguments) {
  const Bound bound(arguments, "joiner()", {"sep"});
  const Value separator = bound.has(0) ? bound[0] : heap.string(", ");
  auto used = std::make_shared<bool>(false);
  return heap.function("joiner", separator.depth(), [separator, used](Heap& h, Arguments& none) {
    const Bound nothing(none, "a joiner", {});
    return std::exchange(*used, true) ? separator : h.string("");
  });
}

Value raise_exception(Heap& heap, Arguments& arguments) {
  const Bound bound(arguments, "raise_exception()", {"message"}, 1);
  fail(printed(heap, bound[0]));
}

/// What C's strftime leaves to Python: the microseconds, and the zone of a time that has none.
std::string for_strftime(const std::string& format, int64_t microseconds) {
  std::string out;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%' || i + 1 == format.size()) {
      out += format[i];
      continue;
    }
    const char letter = format[++i];
    if (letter == 'f') {
      char digits[16];
      std::snprintf(digits, sizeof digits, "%06d", static_cast<int>(microseconds));
      out += digits;
    } else if (letter != 'z' && letter != 'Z') {
      out += {'%', letter};
    }
  }
  return out;
}

Value strftime_now(Heap& heap, Arguments& arguments) {
  const Bound bound(arguments, "strftime_now()", {"format"}, 1);
  if (bound.text(0).size() > 1000) fail("strftime_now(): the format is too long");
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  const auto since = std::chrono::duration_cast<std::chrono::microseconds>(now.time_since_epoch()).count();
  std::tm local{};
  localtime_r(&seconds, &local);
  const std::string format = for_strftime(bound.text(0), since % 1'000'000) + "|";  // never empty
  std::string text(format.size() * 64 + 64, '\0');
  const size_t n = std::strftime(text.data(), text.size(), format.c_str(), &local);
  if (n == 0) fail("strftime_now(): the format is not usable");
  text.resize(n - 1);
  if (!unicode::is_well_formed(text)) fail("strftime_now(): the format is not usable");
  return heap.string(std::move(text));
}

const std::unordered_map<std::string, Function> kGlobals = {
    {"range", range},
    {"dict", dict},
    {"namespace", make_namespace},
    {"cycler", cycler},
    {"joiner", joiner},
    {"raise_exception", raise_exception},
    {"strftime_now", strftime_now},
};
}  // namespace

std::optional<Value> global(Heap& heap, const std::string& name) {
  if (name == "lipsum") fail("the function 'lipsum' is not supported");
  const auto found = kGlobals.find(name);
  if (found == kGlobals.end()) return {};
  return heap.function(name, 0,
                       [call = found->second](Heap& h, Arguments& arguments) { return call(h, arguments); });
}

}  // namespace llmtool::jinja
