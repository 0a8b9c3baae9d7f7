#pragma once
// Arena: one block of memory from which a step takes its buffers, reset in O(1).

#include <cstddef>

#include "llmtool/core/tensor.h"

namespace llmtool {

/// Memory from the operating system: zeroed, page aligned, in huge pages where the kernel allows.
class MemoryBlock {
 public:
  MemoryBlock() = default;
  explicit MemoryBlock(size_t bytes);  // throws Error when the memory cannot be had
  ~MemoryBlock();
  MemoryBlock(MemoryBlock&& other) noexcept;
  MemoryBlock& operator=(MemoryBlock&& other) noexcept;

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// A stack of buffers, 64-byte aligned. Without a block it only measures: it hands out addresses that nobody
/// may touch and records the peak, so that a dry run of a step gives the size that the real run needs.
class Arena {
 public:
  Arena() = default;  // measuring
  explicit Arena(size_t bytes) : block_(bytes), measuring_(false) {}

  Tensor take(const Shape& shape, DType dtype = DType::f32);  // throws Error when the arena is full
  float* floats(int64_t count) { return take({count}).f32(); }

  size_t mark() const { return used_; }
  void release(size_t mark) { used_ = mark; }
  size_t peak() const { return peak_; }  // bytes
  size_t capacity() const { return block_.size(); }
  bool measuring() const { return measuring_; }

 private:
  MemoryBlock block_;
  size_t used_ = 0;
  size_t peak_ = 0;
  bool measuring_ = true;
};

/// Gives back on destruction what was taken from the arena since construction.
class ArenaScope {
 public:
  explicit ArenaScope(Arena& arena) : arena_(arena), mark_(arena.mark()) {}
  ~ArenaScope() { arena_.release(mark_); }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  Arena& arena_;
  size_t mark_;
};

}  // namespace llmtool
