#include "llmtool/model/kv_cache.h"

#include <algorithm>
#include <cstring>

#include "llmtool/core/error.h"

namespace llmtool {

namespace {
constexpr int64_t kSlotStep = 128;  // rings are whole tiles of attention

bool cache_type(DType type) { return type == DType::f32 || type == DType::f16 || type == DType::q8_0; }
}  // namespace

DType kv_cache_type(const std::string& name) {
  for (const DType type : {DType::f32, DType::f16, DType::q8_0}) {
    if (name == dtype_name(type)) return type;
  }
  throw UsageError(cat("kv_cache_type: expected f32, f16 or q8_0, found ", name));
}

KvCache::KvCache(const ModelConfig& config, int64_t capacity, DType type, bool whole)
    : capacity_(capacity), type_(type) {
  const int64_t block = dtype_block(type).elements;
  if (!cache_type(type)) {
    throw UsageError(cat("[kv cache] expected f32, f16 or q8_0, found ", dtype_name(type)));
  }
  if (config.head_dim % block != 0) {
    throw UsageError(cat("[kv cache] ", dtype_name(type), ": expected heads of a multiple of ", block,
                         " elements, the model's have ", config.head_dim, "; f16 takes any"));
  }
  row_bytes_ = dtype_bytes(type, config.kv_heads() * config.head_dim);
  size_t bytes = 0;
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const int64_t window = config.window_of(layer);
    int64_t slots = capacity;
    // A piece is written before its first query, which sees a window of what stood there.
    const int64_t ring = (window - 1 + kPiece + kSlotStep - 1) / kSlotStep * kSlotStep;
    if (window > 0 && !whole && ring < capacity) slots = ring_slots_ = ring;
    window_ = std::max(window_, window);
    places_.push_back({bytes, slots, window > 0});
    bytes += 2 * static_cast<size_t>(slots) * row_bytes_;
  }
  block_ = MemoryBlock(bytes);
}

KvRows KvCache::rows(int64_t layer) const {
  const Place& place = places_[static_cast<size_t>(layer)];
  std::byte* const keys = block_.data() + place.offset;
  return {keys, keys + static_cast<size_t>(place.slots) * row_bytes_, type_, place.slots, length};
}

int64_t KvCache::held_from() const { return std::max(floor_, ring_slots_ ? filled_ - ring_slots_ : 0); }

int64_t KvCache::first_held(int64_t layer) const {
  return places_[static_cast<size_t>(layer)].window ? held_from() : 0;
}

void KvCache::grow(int64_t positions) {
  length += positions;
  filled_ = std::max(filled_, length);
}

bool KvCache::can_cut(int64_t positions) const {
  if (positions < 0 || positions > length) return false;
  return positions == 0 || held_from() <= std::max<int64_t>(0, positions + 1 - window_);
}

void KvCache::cut(int64_t positions) {
  if (!can_cut(positions)) {
    throw Error(cat("[kv cache] expected to keep what its windows still hold, found ", positions, " of ",
                    length, " positions to keep"));
  }
  length = positions;
  if (positions == 0) filled_ = floor_ = 0;
  ids.resize(std::min(ids.size(), static_cast<size_t>(positions)));
}

void KvCache::copy_from(const KvCache& other, int64_t positions) {
  if (other.row_bytes_ != row_bytes_ || other.type_ != type_ || other.layers() != layers() ||
      positions > capacity_ || !other.can_cut(positions)) {
    throw Error(cat("[kv cache] expected at most ", capacity_, " positions of ", layers(), " layers of ",
                    dtype_name(type_), ", found ", positions, " of ", other.layers(), " of ",
                    dtype_name(other.type_)));
  }
  int64_t first_of_rings = 0;
  for (int64_t layer = 0; layer < layers(); ++layer) {
    const KvRows from = other.rows(layer), to = rows(layer);
    const int64_t first = std::max({int64_t{0}, other.first_held(layer), positions - to.slots});
    first_of_rings = std::max(first_of_rings, first);
    for (int64_t p = first, n; p < positions; p += n) {
      n = std::min({positions - p, from.slots - p % from.slots, to.slots - p % to.slots});
      const size_t bytes = static_cast<size_t>(n) * row_bytes_;
      const size_t at = static_cast<size_t>(p % to.slots) * row_bytes_,
                   source = static_cast<size_t>(p % from.slots) * row_bytes_;
      std::memcpy(to.keys + at, from.keys + source, bytes);
      std::memcpy(to.values + at, from.values + source, bytes);
    }
  }
  set_filled(positions, first_of_rings);
  ids.assign(other.ids.begin(), other.ids.begin() + static_cast<std::ptrdiff_t>(std::min(
                                                        other.ids.size(), static_cast<size_t>(positions))));
}

void KvCache::set_filled(int64_t positions, int64_t first_held) {
  length = filled_ = positions;
  floor_ = first_held;
}

}  // namespace llmtool
