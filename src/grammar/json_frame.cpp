#include "grammar/json_frame.h"

namespace llmtool {

JsonFramePtr::JsonFramePtr(const JsonFramePtr& other) : frame_(other.frame_) {
  if (frame_) frame_->owners.fetch_add(1, std::memory_order_relaxed);
}

void JsonFramePtr::release(JsonFrame* frame) {
  while (frame && frame->owners.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    JsonFrame* around = std::exchange(frame->around.frame_, nullptr);
    delete frame;
    frame = around;
  }
}

JsonFramePtr JsonFrame::copy() const {
  auto* frame = new JsonFrame;
  frame->around = around;
  frame->array = array;
  frame->shape = shape;
  frame->items = items;
  frame->properties = properties;
  frame->unique = unique;
  frame->used = used;
  frame->forbidden = forbidden;
  frame->index = index;
  frame->item_begin = item_begin;
  return JsonFramePtr(frame);
}

bool same_frames(const JsonFrame* a, const JsonFrame* b) {
  for (; a != b; a = a->around.get(), b = b->around.get()) {
    if (!a || !b || a->array != b->array || a->shape != b->shape) return false;
    if (a->array && (a->items != b->items || a->used != b->used || a->forbidden != b->forbidden))
      return false;
    if (!a->array &&
        (a->properties.seen != b->properties.seen || a->properties.count != b->properties.count ||
         a->properties.wanted != b->properties.wanted || a->properties.others != b->properties.others)) {
      return false;
    }
  }
  return true;
}

}  // namespace llmtool
