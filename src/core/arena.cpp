#include "llmtool/core/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <utility>

#include "llmtool/core/error.h"
#include "llmtool/core/log.h"

namespace llmtool {

namespace {
constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = 2 << 20;
}  // namespace

MemoryBlock::MemoryBlock(size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  // Unreserved: nothing is taken before it is touched, so that a plan too large is refused by its plan.
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw Error(cat("[memory] could not get ", human_bytes(static_cast<double>(bytes))));
  data_ = static_cast<std::byte*>(p);
  if (bytes >= 4 * kHugePage) madvise(p, bytes, MADV_HUGEPAGE);
}

MemoryBlock::~MemoryBlock() {
  if (data_) munmap(data_, size_);
}

MemoryBlock::MemoryBlock(MemoryBlock&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MemoryBlock& MemoryBlock::operator=(MemoryBlock&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Tensor Arena::take(const Shape& shape, DType dtype) {
  const size_t bytes = dtype_bytes(dtype, shape.size());
  const size_t start = used_;
  used_ = (start + bytes + kAlignment - 1) / kAlignment * kAlignment;
  peak_ = std::max(peak_, used_);
  // While measuring, the address only has to be different from nullptr.
  if (measuring_) return Tensor(reinterpret_cast<void*>(kAlignment + start), dtype, shape);
  if (used_ > block_.size()) throw Error(cat("[arena] out of memory: ", used_, " bytes of ", block_.size()));
  return Tensor(block_.data() + start, dtype, shape);
}

}  // namespace llmtool
