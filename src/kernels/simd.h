#pragma once
// Vectors of floats in the compiler's own vector types: one source for every instruction set. Loops over a
// row end with load_part and store_part, so that an element's bits do not depend on where in memory its row
// begins.

#include <cmath>
#include <cstdint>
#include <cstring>

namespace llmtool::simd {

#if defined(__AVX512F__)
inline constexpr int kLanes = 16;
#else
inline constexpr int kLanes = 8;  // two registers where the machine's are narrower
#endif

typedef float Vec __attribute__((vector_size(kLanes * sizeof(float))));
typedef int32_t IntVec __attribute__((vector_size(kLanes * sizeof(int32_t))));

typedef float Vec8 __attribute__((vector_size(32)));
typedef int32_t IntVec8 __attribute__((vector_size(32)));

inline Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void store(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }
inline Vec broadcast(float x) { return x - Vec{}; }

/// The first n lanes from p, the others `fill`.
inline Vec load_part(const float* p, int64_t n, float fill) {
  Vec v = broadcast(fill);
  for (int64_t i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
inline void store_part(float* p, Vec v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = v[i];
}

/// Turns 8 rows of 8 into 8 columns. Moves bits alone: the lanes may hold anything.
inline void transpose(Vec8 (&r)[8]) {
  Vec8 t[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    t[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int i = 0; i < 8; i += 4) {
    for (int j = 0; j < 2; ++j) {
      r[i + 2 * j] = __builtin_shufflevector(t[i + j], t[i + 2 + j], 0, 1, 8, 9, 4, 5, 12, 13);
      r[i + 2 * j + 1] = __builtin_shufflevector(t[i + j], t[i + 2 + j], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = __builtin_shufflevector(r[i], r[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    t[i + 4] = __builtin_shufflevector(r[i], r[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
  for (int i = 0; i < 8; ++i) r[i] = t[i];
}

/// Calls f(i, Full) for every whole vector of a row of n floats and f(i, Part) for the rest, so that one
/// generic lambda serves both; load and store below take the second argument.
struct Full {};
struct Part {
  int64_t n;
};
inline Vec load(const float* p, Full) { return load(p); }
inline Vec load(const float* p, Part part) { return load_part(p, part.n, 0); }
inline void store(float* p, Vec v, Full) { store(p, v); }
inline void store(float* p, Vec v, Part part) { store_part(p, v, part.n); }
template <class F>
inline void for_lanes(int64_t n, F f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) f(i, Full{});
  if (i < n) f(i, Part{n - i});
}

inline Vec max(Vec a, Vec b) { return a > b ? a : b; }
inline Vec min(Vec a, Vec b) { return a < b ? a : b; }

inline float sum(Vec v) {
  float lanes[kLanes];
  store(lanes, v);
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}
inline float largest(Vec v) {
  float m = v[0];
  for (int i = 1; i < kLanes; ++i) m = v[i] > m ? v[i] : m;
  return m;
}

/// e^x to within 2 ulp: x = n ln 2 + r with |r| <= ln(2)/2, and a degree 6 polynomial fitted on that interval
/// (the coefficients of Cephes' expf). Below -87.3 the result is 0, above 88.3 it saturates there; NaN stays
/// NaN.
inline Vec exp(Vec x) {
  const Vec clamped = min(max(x, broadcast(-87.33f)), broadcast(88.37f));
  const Vec shifted =
      clamped * 1.44269504088896341f + 12582912.0f;  // 1.5 * 2^23: rounds to the nearest integer
  const Vec n = shifted - 12582912.0f;
  Vec r = clamped - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  Vec p = broadcast(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  IntVec bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits << 23) + 0x3f800000;  // the low bits of `shifted` hold n
  Vec scale;
  std::memcpy(&scale, &bits, sizeof scale);
  const Vec y = p * scale;
  const Vec low = broadcast(-87.33f);
  return x >= low ? y : (x < low ? Vec{} : x);
}

/// tanh(x) to within 1.2e-7 absolute.
inline Vec tanh(Vec x) { return 1.0f - 2.0f / (1.0f + exp(2.0f * x)); }

inline float dot(const float* a, const float* b, int64_t n) {
  Vec total{};
  for_lanes(n, [&](int64_t i, auto part) { total += load(a + i, part) * load(b + i, part); });
  return sum(total);
}

}  // namespace llmtool::simd
