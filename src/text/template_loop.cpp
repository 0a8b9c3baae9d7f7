#include "text/template_loop.h"

#include "llmtool/core/error.h"
#include "text/template_eval.h"

namespace llmtool::jinja {

namespace {
bool peek(Heap& heap, LoopObject& loop) {
  if (loop.after) return true;
  if (loop.ended) return false;
  Value value;
  if (!next(heap, loop.iterator, value)) return false;
  loop.after = value;
  return true;
}

int64_t loop_length(Heap& heap, LoopObject& loop) {
  if (!loop.length && loop.ended) loop.length = loop.index0 + 1;
  if (!loop.length) loop.length = length(loop.iterable);
  if (!loop.length) {  // the rest has to be made to be counted
    const Value rest = heap.list(to_values(heap, loop.iterator));
    loop.iterator = *iterate(heap, rest);
    loop.length = static_cast<int64_t>(rest.items().size()) + loop.index0 + 1 + (loop.after ? 1 : 0);
  }
  return *loop.length;
}

Value cycle(Heap& heap, const Value& self) {
  return heap.function("cycle", self.depth(), [self](Heap&, Arguments& arguments) {
    if (!arguments.named.empty()) fail("cycle() takes no keyword arguments");
    if (arguments.positional.empty()) fail("no items for cycling given");
    const auto at = static_cast<size_t>(self.as<LoopObject>().index0);
    return arguments.positional[at % arguments.positional.size()];
  });
}

Value changed(Heap& heap, const Value& self) {
  return heap.function("changed", self.depth(), [self](Heap& h, Arguments& arguments) {
    auto& loop = self.as<LoopObject>();
    if (!arguments.named.empty()) fail("changed() takes no keyword arguments");
    if (loop.last_changed && equal(h, h.tuple(*loop.last_changed), h.tuple(arguments.positional)))
      return Value(false);
    if (!loop.ended) loop.last_changed = arguments.positional;
    return Value(true);
  });
}
}  // namespace

bool advance(Heap& heap, LoopObject& loop) {
  Value value;
  if (loop.after) {
    value = *loop.after;
    loop.after.reset();
  } else if (!next(heap, loop.iterator, value)) {
    return false;
  }
  ++loop.index0;
  loop.before = loop.current;
  loop.current = value;
  return true;
}

std::optional<Value> loop_attribute(Heap& heap, const Value& self, const std::string& name) {
  auto& loop = self.as<LoopObject>();
  if (name == "index") return Value(loop.index0 + 1);
  if (name == "index0") return Value(loop.index0);
  if (name == "first") return Value(loop.index0 == 0);
  if (name == "last") return Value(!peek(heap, loop));
  if (name == "length") return Value(loop_length(heap, loop));
  if (name == "revindex") return Value(loop_length(heap, loop) - loop.index0);
  if (name == "revindex0") return Value(loop_length(heap, loop) - loop.index0 - 1);
  if (name == "depth") return Value(int64_t{1});
  if (name == "depth0") return Value(int64_t{0});
  if (name == "previtem") return loop.index0 == 0 ? heap.undefined("there is no previous item") : loop.before;
  if (name == "nextitem") return peek(heap, loop) ? *loop.after : heap.undefined("there is no next item");
  if (name == "cycle") return cycle(heap, self);
  if (name == "changed") return changed(heap, self);
  return {};
}

}  // namespace llmtool::jinja
