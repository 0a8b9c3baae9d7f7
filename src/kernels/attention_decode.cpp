// Attention of the last position alone, over a cache.

#include <algorithm>

#include "kernels/attention_scores.h"

namespace llmtool {

namespace {
using simd::Vec;

constexpr int64_t kTogether = 8;  // rows of a cache that are unpacked and multiplied together
constexpr int64_t kAhead = 16;    // rows

/// out[r] = a . row r, of D elements.
template <int count>
void dots(const float* a, const float* const* rows, int64_t D, float* out) {
  Vec sums[count] = {};
  simd::for_lanes(D, [&](int64_t i, auto part) {
    const Vec x = simd::load(a + i, part);
#pragma GCC unroll 8
    for (int r = 0; r < count; ++r) sums[r] += x * simd::load(rows[r] + i, part);
  });
  for (int r = 0; r < count; ++r) out[r] = simd::sum(sums[r]);
}

/// y += the sum of weights[r] * row r.
template <int count>
void add_rows(const float* weights, const float* const* rows, int64_t D, float* y) {
  simd::for_lanes(D, [&](int64_t i, auto part) {
    Vec sum = simd::load(y + i, part);
#pragma GCC unroll 8
    for (int r = 0; r < count; ++r) sum += weights[r] * simd::load(rows[r] + i, part);
    simd::store(y + i, sum, part);
  });
}

/// Calls f(j, rows, count) for rows j .. j + count of n from position `first` on; count is kTogether or 1.
template <class F>
void for_cached_rows(const CachedHead& cached, int64_t first, int64_t n, float* room, F f) {
  const float* rows[kTogether];
  for (int64_t j = 0; j < n;) {
    const int64_t count = j + kTogether <= n ? kTogether : 1;
    for (int64_t r = 0; r < count; ++r) {
      if (j + r + kAhead < n) cached.fetch(first + j + r + kAhead);
      rows[r] = cached.row(first + j + r, room + r * cached.D);
    }
    f(j, rows, count);
    j += count;
  }
}

/// The last query of `heads` heads of one group, of head h on. q and out are at head 0; room: kTogether rows
/// and `heads` rows of scores.
void decode_heads(const KvRows& cache, int64_t group, int64_t K, int64_t D, int64_t h, int64_t heads,
                  const float* q, const AttentionRules& rules, float* out, float* room) {
  const CachedHead keys = cached_head(cache, cache.keys, h / group, K, D),
                   values = cached_head(cache, cache.values, h / group, K, D);
  const int64_t length = cache.past + 1;
  const int64_t first = rules.window > 0 ? std::max<int64_t>(0, length - rules.window) : 0;
  const int64_t n = length - first;
  float* const scores = room + kTogether * D;
  // Rows of a prefix are each head's own, those of the cache the group's.
  const int64_t own = std::clamp<int64_t>(rules.prefix.count - first, 0, n);
  const auto for_rows = [&](int64_t part, const CachedHead& cached, auto f) {
    for (int64_t i = 0; own > 0 && i < heads; ++i) {
      for_cached_rows(
          prefix_head(rules.prefix, part, h + i, group * K, D), first, own, room,
          [&](int64_t j, const float* const* rows, int64_t count) { f(i, i + 1, j, rows, count); });
    }
    for_cached_rows(
        cached, first + own, n - own, room,
        [&](int64_t j, const float* const* rows, int64_t count) { f(0, heads, own + j, rows, count); });
  };
  for_rows(0, keys, [&](int64_t i, int64_t end, int64_t j, const float* const* rows, int64_t count) {
    for (; i < end; ++i) {
      const auto multiply = count == kTogether ? dots<kTogether> : dots<1>;
      multiply(q + (h + i) * D, rows, D, scores + i * n + j);
    }
  });
  for (int64_t i = 0; i < heads; ++i) {
    float* const p = scores + i * n;
    const float scale = shape_scores(rules, h + i, first, p, n, nullptr);
    scale_row(p, n, 1.0f / exponentials(p, n, scale, largest_score(p, n) * scale));
  }
  std::fill_n(out + h * D, heads * D, 0.0f);
  for_rows(1, values, [&](int64_t i, int64_t end, int64_t j, const float* const* rows, int64_t count) {
    for (; i < end; ++i) {
      const auto add = count == kTogether ? add_rows<kTogether> : add_rows<1>;
      add(scores + i * n + j, rows, D, out + (h + i) * D);
    }
  });
}
}  // namespace

void store_kv(const KvRows& cache, int64_t position, const float* key, const float* value, int64_t width) {
  const size_t at = static_cast<size_t>(position % cache.slots) * dtype_bytes(cache.type, width);
  from_f32(key, cache.keys + at, cache.type, width);
  from_f32(value, cache.values + at, cache.type, width);
}

void attention_decode(Exec& exec, int64_t H, int64_t K, int64_t D, const float* q, int64_t q_stride,
                      std::span<const KvRows> caches, const AttentionRules& rules, float* out) {
  if (exec.dry()) return;
  int64_t longest = 0;
  for (const KvRows& cache : caches) longest = std::max(longest, cache.past + 1);
  // Heads of a group share what is unpacked, unless threads would stand idle.
  const auto sequences = static_cast<int64_t>(caches.size());
  const int64_t heads = sequences * K < exec.pool.size() ? 1 : H / K;
  const size_t room = static_cast<size_t>(kTogether * D + heads * longest) * sizeof(float);
  exec.pool.run(sequences * H / heads, [&](int64_t task, int worker) {
    const int64_t b = task * heads / H, h = task * heads % H;
    decode_heads(caches[static_cast<size_t>(b)], H / K, K, D, h, heads, q + b * q_stride, rules,
                 out + b * H * D, static_cast<float*>(exec.pool.scratch(worker, room)));
  });
}

}  // namespace llmtool
