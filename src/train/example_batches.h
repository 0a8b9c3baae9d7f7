#pragma once
// ExampleBatches: which examples each micro batch of each step holds.

#include <cstdint>
#include <vector>

#include "llmtool/data/example_order.h"

namespace llmtool {

/// The units of a batch are examples or, with packing, packs of them: those of the first epoch's order, which
/// later epochs shuffle as they are. An epoch deals out all units; its last step takes what is left. Any
/// step's examples are known without those before it.
class ExampleBatches {
 public:
  struct Options {
    int64_t batch_size = 1, accumulation = 1;  // units of a micro batch; micro batches of a step
    int64_t pack_length = 0;                   // tokens of a pack; 0: every example by itself
    bool shuffle = true;
    uint64_t seed = 1;
  };
  /// Throws UsageError where a source with a weight has no example.
  ExampleBatches(const ExampleSet& set, const std::vector<DataSource>& sources, const Options& options);

  int64_t units() const { return units_; }
  int64_t steps_per_epoch() const;
  int64_t first_unit(int64_t step) const;  // counted from the start of the run
  int64_t micro_batches(int64_t step) const;
  /// Numbers of the examples of a micro batch, in order.
  std::vector<int64_t> examples(int64_t step, int64_t micro) const;
  /// Tokens of the largest micro batch among the first `steps`, `in_front` of every example among them; a
  /// bound on them in a run too long to go through.
  int64_t most_tokens(int64_t steps, int64_t in_front = 0) const;
  std::vector<double> repeats() const { return order_.repeats(); }
  /// Tokens of an epoch.
  int64_t tokens() const { return tokens_; }

 private:
  int64_t step_units() const { return options_.batch_size * options_.accumulation; }
  int64_t tokens_of(const std::vector<int64_t>& examples, int64_t in_front) const;
  void add_unit(int64_t epoch, int64_t place, std::vector<int64_t>& examples) const;

  Options options_;
  ExampleOrder order_;
  std::vector<Pack> packs_;       // places of the first epoch
  std::vector<int64_t> lengths_;  // of the examples
  int64_t units_ = 0, tokens_ = 0;
};

}  // namespace llmtool
