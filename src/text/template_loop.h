#pragma once
// The `loop` of a for block.

#include "text/template_value.h"

namespace llmtool::jinja {

struct LoopObject : Object {
  Value iterable, iterator;
  int64_t index0 = -1;
  std::optional<int64_t> length;
  std::optional<Value> after;  // looked at, not yet gone to
  Value before, current;
  std::optional<Values> last_changed;
  bool ended = false;
  /// At its end it keeps its place, and lets go of the items.
  void clear() override {
    ended = true;
    iterable = iterator = before = current = Value();
    after.reset();
    last_changed.reset();
  }
};

/// Goes to the next item.
bool advance(Heap& heap, LoopObject& loop);
std::optional<Value> loop_attribute(Heap& heap, const Value& loop, const std::string& name);

}  // namespace llmtool::jinja
