#pragma once
// What a pass over many queries and the last query alone share: rows of a cache, and scores.

#include <algorithm>
#include <limits>

#include "kernels/simd.h"
#include "llmtool/kernels/attention.h"
#include "llmtool/kernels/convert.h"
#include "llmtool/kernels/matmul.h"

namespace llmtool {

inline constexpr float kLowest = -std::numeric_limits<float>::infinity();

/// The keys or the values of one head in a cache, or in a prefix.
struct CachedHead {
  const std::byte* data;
  DType type;
  int64_t slots, row_bytes, D;

  const std::byte* at(int64_t position) const {
    return data + (position < slots ? position : position % slots) * row_bytes;
  }
  /// Row `position` as f32: where it lies, or in `room` (D).
  const float* row(int64_t position, float* room) const {
    if (type == DType::f32) return reinterpret_cast<const float*>(at(position));
    to_f32(at(position), type, room, D);
    return room;
  }
  /// Asks for a row that will be needed: the next one of a head lies too far away for the machine to guess.
  void fetch(int64_t position) const {
    constexpr int64_t kLine = 64;
    const std::byte* const row = at(position);
    const auto bytes = static_cast<int64_t>(dtype_bytes(type, D));
    for (int64_t i = 0; i < bytes; i += kLine) __builtin_prefetch(row + i);
    __builtin_prefetch(row + bytes - 1);
  }
  /// The same for `n` rows of a tile, which are neighbours.
  MatrixView rows(int64_t first, int64_t n, float* room) const {
    if (type == DType::f32) {
      return {reinterpret_cast<const float*>(at(first)), row_bytes / static_cast<int64_t>(sizeof(float)), 1};
    }
    for (int64_t i = 0; i < n; ++i) to_f32(at(first + i), type, room + i * D, D);
    return {room, D, 1};
  }
};

inline CachedHead cached_head(const KvRows& cache, const std::byte* data, int64_t kv_head, int64_t K,
                              int64_t D) {
  return {data + dtype_bytes(cache.type, kv_head * D), cache.type, cache.slots,
          static_cast<int64_t>(dtype_bytes(cache.type, K * D)), D};
}

/// Those that a prefix has for query head h: keys, or, `part` 1, values.
inline CachedHead prefix_head(const AttentionPrefix& prefix, int64_t part, int64_t h, int64_t H, int64_t D) {
  return {reinterpret_cast<const std::byte*>(prefix.rows + (part * H + h) * D), DType::f32, prefix.count,
          prefix.stride * static_cast<int64_t>(sizeof(float)), D};
}

/// Applies what the rules do beside the scale to n products, of keys from j on; returns the factor that is
/// left to apply. `slopes` (n), where not null, receives the derivatives of the cap.
inline float shape_scores(const AttentionRules& rules, int64_t h, int64_t j, float* row, int64_t n,
                          float* slopes) {
  if (rules.softcap == 0 && !rules.alibi) return rules.scale;
  const float* const bias = rules.alibi ? rules.alibi.f32() + h * rules.alibi.cols() + j : nullptr;
  simd::for_lanes(n, [&](int64_t i, auto part) {
    simd::Vec v = simd::load(row + i, part) * rules.scale;
    if (rules.softcap != 0) {
      const simd::Vec t = simd::tanh(v * (1.0f / rules.softcap));
      if (slopes) simd::store(slopes + i, 1.0f - t * t, part);
      v = t * rules.softcap;
    }
    if (bias) v += simd::load(bias + i, part);
    simd::store(row + i, v, part);
  });
  return 1;
}

/// Turns `valid` scores into exp(score * scale - shift); returns their sum.
inline float exponentials(float* row, int64_t valid, float scale, float shift) {
  simd::Vec sum{};
  float rest = 0;
  simd::for_lanes(valid, [&](int64_t j, auto part) {
    const simd::Vec e = simd::exp(simd::load(row + j, part) * scale - shift);
    simd::store(row + j, e, part);
    if constexpr (std::is_same_v<decltype(part), simd::Full>) {
      sum += e;
    } else {
      for (int64_t lane = 0; lane < part.n; ++lane) rest += e[lane];
    }
  });
  return simd::sum(sum) + rest;
}

inline float largest_score(const float* row, int64_t valid) {
  float most = kLowest;
  int64_t j = 0;
  if (valid >= simd::kLanes) {
    simd::Vec best = simd::load(row);
    for (j = simd::kLanes; j + simd::kLanes <= valid; j += simd::kLanes)
      best = simd::max(best, simd::load(row + j));
    most = simd::largest(best);
  }
  for (; j < valid; ++j) most = std::max(most, row[j]);
  return most;
}

inline void scale_row(float* row, int64_t n, float factor) {
  simd::for_lanes(
      n, [&](int64_t i, auto part) { simd::store(row + i, simd::load(row + i, part) * factor, part); });
}

}  // namespace llmtool
