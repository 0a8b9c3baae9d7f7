#pragma once
// In which order examples come, and which of them share a sequence.

#include <cstdint>
#include <span>
#include <vector>

#include "llmtool/data/data_source.h"
#include "llmtool/data/examples.h"

namespace llmtool {

/// The order of each epoch, of which any place can be had without those before it, so that a run goes on
/// where it stopped.
///
/// Without weights an epoch is all examples, shuffled anew by seed and epoch, or in the order of the rows.
/// With weights it has as many places as there are examples, and each source has its share of them; a source
/// goes through its own examples, shuffled anew each time, and goes on in the next epoch where it stopped.
/// Without shuffling a source's places stand together, in the order of the sources.
class ExampleOrder {
 public:
  /// Throws UsageError where a source with a weight has no example.
  ExampleOrder(const ExampleSet& set, const std::vector<DataSource>& sources, bool shuffle, uint64_t seed);

  int64_t size() const { return size_; }  // places of an epoch
  /// How often each source's examples come in an epoch on the mean; empty without weights.
  std::vector<double> repeats() const;
  /// The number of the example at a place of an epoch.
  int64_t at(int64_t epoch, int64_t place) const;

 private:
  struct Source {
    std::vector<int64_t> examples;
    uint64_t share = 0;  // places of an epoch
  };
  uint64_t shuffled(uint64_t n, uint64_t i, uint64_t stream, uint64_t round) const;

  int64_t size_;
  bool shuffle_;
  uint64_t seed_;
  std::vector<Source> sources_;  // empty without weights
};

/// Examples that share a sequence: the first and one behind the last of a list.
struct Pack {
  int64_t first = 0, end = 0;
};
/// Puts examples of these lengths together, in order, as long as they are at most `length` tokens (next fit).
/// None is split; one that is longer, which a bound on examples prevents, stands alone.
std::vector<Pack> pack_examples(std::span<const int64_t> lengths, int64_t length);

}  // namespace llmtool
