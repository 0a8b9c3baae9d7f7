#pragma once
// Rng: random numbers whose whole state is two words.

#include <cstdint>

namespace llmtool {

/// The finalizer of SplitMix64 (Steele, Lea and Flood 2014): a bijection that scatters nearby inputs.
inline uint64_t mix64(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

/// SplitMix64 over a counter: number n of a stream is mix64(key + n * golden), so that streams can be split
/// by key and any number be had without those before it. Saved and restored as {key, count}.
class Rng {
 public:
  explicit Rng(uint64_t seed = 0) : key(mix64(seed + 0x9e3779b97f4a7c15ULL)) {}

  uint64_t at(uint64_t n) const { return mix64(key + n * 0x9e3779b97f4a7c15ULL); }
  uint64_t next() { return at(++count); }
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }  // [0, 1)
  uint64_t below(uint64_t bound) {  // [0, bound), Lemire's product; the bias is under 2^-64 * bound
    return static_cast<uint64_t>((static_cast<Wide>(next()) * bound) >> 64);
  }
  double normal();  // mean 0, variance 1 (Box-Muller, one number per two uniforms)
  Rng split(uint64_t stream) const {
    Rng r;
    r.key = mix64(key ^ mix64(stream + 0xd1b54a32d192ed03ULL));
    return r;
  }

  __extension__ using Wide = unsigned __int128;
  uint64_t key = 0;
  uint64_t count = 0;
};

}  // namespace llmtool
