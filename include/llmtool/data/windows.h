#pragma once
// Windows: fixed-length samples from streams of tokens, in an order that depends on the seed alone.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "llmtool/data/token_shard.h"

namespace llmtool {

/// A stream of tokens: parts of shards, one after another.
class TokenStream {
 public:
  void add(std::shared_ptr<const TokenShard> shard, int64_t begin, int64_t end);
  int64_t size() const { return size_; }
  void copy(int64_t first, int64_t count, TokenId* ids) const;
  /// Samples of `length` inputs and as many targets, one position on, that share no target.
  int64_t windows(int64_t length) const { return size_ > length ? (size_ - 1) / length : 0; }
  uint64_t hash() const;  // of the tokens

 private:
  struct Part {
    std::shared_ptr<const TokenShard> shard;
    int64_t begin, start, size;  // in the shard; in the stream; tokens
  };
  std::vector<Part> parts_;
  int64_t size_ = 0;
};

/// Splits a shard into a training and a validation stream: `fraction` of its documents, drawn by seed, or,
/// where it has fewer than 20, the end of it.
void split_by_document(const std::shared_ptr<const TokenShard>& shard, double fraction, uint64_t seed,
                       TokenStream& training, TokenStream& validation);

/// A permutation of [0, n): position i of it without any memory (a four-round Feistel network, walked until
/// it falls into the range; Black and Rogaway 2002).
class Permutation {
 public:
  Permutation(uint64_t n, uint64_t key);
  uint64_t operator()(uint64_t i) const;

 private:
  uint64_t n_, key_;
  int half_bits_;
};

/// Draws windows from several streams. Sample g (the number since the start of the run) is the same whatever
/// came before it: without weights all windows of all streams make one epoch; with weights every 1,000
/// samples hold each stream's share, and each stream has epochs of its own. Within an epoch no token is a
/// target twice; each epoch cuts the streams at places of its own, so that a later one is not the same
/// windows again.
class WindowSampler {
 public:
  struct Source {
    TokenStream stream;
    double weight = 0;  // 0 for all: no weights
  };
  WindowSampler(std::vector<Source> sources, int64_t length, uint64_t seed);

  int64_t windows() const { return total_; }  // of all streams, per epoch
  int64_t length() const { return length_; }
  const std::vector<Source>& sources() const { return sources_; }
  /// inputs and targets (length each) of sample g.
  void sample(uint64_t g, TokenId* inputs, TokenId* targets) const;

 private:
  static constexpr uint64_t kPattern = 1000;
  struct Place {
    size_t source;
    uint64_t window, epoch;
  };
  Place place(uint64_t g) const;
  /// Windows of an epoch of source i: one less than there could be leaves room to shift them.
  int64_t windows_of(size_t i) const;

  std::vector<Source> sources_;
  int64_t length_, total_ = 0;
  uint64_t seed_;
  std::vector<uint64_t> shares_;  // of kPattern samples; empty without weights
};

}  // namespace llmtool
