#pragma once
// KvCache: what a decoder keeps of the text so far.

#include <vector>

#include "llmtool/core/arena.h"
#include "llmtool/kernels/attention.h"
#include "llmtool/model/model_config.h"

namespace llmtool {

/// Keys and values of one sequence, every layer's, as f32, f16 or q8_0. Layers with a window keep the last
/// positions alone: the window, and room for what is read at a time.
class KvCache {
 public:
  static constexpr int64_t kPiece = 512;  // positions read at a time

  /// Room for `capacity` positions. `whole`: layers with a window keep all of them, too. Throws UsageError
  /// for another type, and where a head is no whole blocks of it.
  KvCache(const ModelConfig& config, int64_t capacity, DType type = DType::f32, bool whole = false);

  int64_t length = 0;        // positions filled
  std::vector<int32_t> ids;  // of these positions, where the family must read them again (longrope)

  int64_t capacity() const { return capacity_; }
  DType type() const { return type_; }
  size_t bytes() const { return block_.size(); }
  int64_t layers() const { return static_cast<int64_t>(places_.size()); }
  /// A layer's rows; past is the length.
  KvRows rows(int64_t layer) const;
  size_t row_bytes() const { return row_bytes_; }  // of a key or a value of all heads
  /// The first position that a layer still holds.
  int64_t first_held(int64_t layer) const;

  /// Counts positions that have been written behind the others.
  void grow(int64_t positions);
  /// Whether the first `positions` can be what is left: layers with a window may have lost what they saw.
  bool can_cut(int64_t positions) const;
  /// Keeps the first `positions`. Throws Error unless can_cut().
  void cut(int64_t positions);
  /// Becomes the first `positions` of the other one, which has the same model and type. Throws Error.
  void copy_from(const KvCache& other, int64_t positions);
  /// The same for what was written elsewhere, into rows(): layers with a window hold positions from
  /// `first_held` on.
  void set_filled(int64_t positions, int64_t first_held);

 private:
  struct Place {
    size_t offset;  // of the keys; the values lie behind them
    int64_t slots;
    bool window;
  };
  int64_t held_from() const;

  int64_t capacity_;
  int64_t window_ = 0;  // of the layers that have one; 0: none has
  DType type_;
  size_t row_bytes_;
  std::vector<Place> places_;  // of each layer
  int64_t ring_slots_ = 0;     // of layers that keep the last positions alone; 0: there are none
  int64_t filled_ = 0;         // the greatest length since it was empty
  int64_t floor_ = 0;          // the first position that those layers were given
  MemoryBlock block_;
};

/// The type of that name: f32, f16 or q8_0. Throws UsageError.
DType kv_cache_type(const std::string& name);

}  // namespace llmtool
