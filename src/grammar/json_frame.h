#pragma once
// JsonFrame: an array or object that is being read, and those around it.

#include <atomic>
#include <memory>
#include <utility>

#include "grammar/array_shape.h"
#include "grammar/distinct_items.h"
#include "grammar/object_shape.h"

namespace llmtool {

struct JsonFrame;

/// Shared and immutable once made. Ends long chains without recursion.
class JsonFramePtr {
 public:
  JsonFramePtr() = default;
  explicit JsonFramePtr(JsonFrame* frame) : frame_(frame) {}
  JsonFramePtr(const JsonFramePtr& other);
  JsonFramePtr(JsonFramePtr&& other) noexcept : frame_(std::exchange(other.frame_, nullptr)) {}
  JsonFramePtr& operator=(JsonFramePtr other) noexcept {
    std::swap(frame_, other.frame_);
    return *this;
  }
  ~JsonFramePtr() { release(frame_); }
  const JsonFrame* operator->() const { return frame_; }
  const JsonFrame& operator*() const { return *frame_; }
  JsonFrame& edit() { return *frame_; }  // while nobody else has it
  const JsonFrame* get() const { return frame_; }
  explicit operator bool() const { return frame_ != nullptr; }

 private:
  friend struct JsonFrame;
  static void release(JsonFrame* frame);
  JsonFrame* frame_ = nullptr;
};

/// Its state is that behind the item or property that is being read, if one is.
struct JsonFrame {
  std::atomic<uint32_t> owners{1};
  JsonFramePtr around;
  bool array = false;
  uint32_t shape = 0;  // of SchemaGraph
  ArrayShape::State items;
  ObjectShape::State properties;
  bool unique = false;
  DistinctItems::Values used, forbidden;  // of a unique array: its items; and what the next one may not be
  uint64_t index = 0;                     // items begun
  size_t item_begin = 0;                  // where the item begins in the text

  JsonFramePtr copy() const;
};

/// Whether two stacks of frames are in the same state.
bool same_frames(const JsonFrame* a, const JsonFrame* b);

}  // namespace llmtool
