#include "train/example_batches.h"

#include <algorithm>
#include <numeric>

#include "llmtool/core/rng.h"
#include "llmtool/data/windows.h"

namespace llmtool {

namespace {
constexpr int64_t kMostUnits = int64_t{1} << 24;
constexpr uint64_t kPackStream = 0x7061636b;  // of the seed
}  // namespace

ExampleBatches::ExampleBatches(const ExampleSet& set, const std::vector<DataSource>& sources,
                               const Options& options)
    : options_(options), order_(set, sources, options.shuffle, options.seed) {
  for (int64_t i = 0; i < set.size(); ++i) lengths_.push_back(static_cast<int64_t>(set[i].ids.size()));
  std::vector<int64_t> dealt;  // lengths in the first epoch's order
  for (int64_t place = 0; place < order_.size(); ++place)
    dealt.push_back(lengths_[static_cast<size_t>(order_.at(0, place))]);
  tokens_ = std::accumulate(dealt.begin(), dealt.end(), int64_t{0});
  units_ = order_.size();
  if (options.pack_length == 0) return;
  packs_ = pack_examples(dealt, options.pack_length);
  units_ = static_cast<int64_t>(packs_.size());
}

int64_t ExampleBatches::steps_per_epoch() const { return (units_ + step_units() - 1) / step_units(); }

int64_t ExampleBatches::first_unit(int64_t step) const {
  const int64_t epoch = step / steps_per_epoch(), within = step % steps_per_epoch();
  return epoch * units_ + within * step_units();
}

int64_t ExampleBatches::micro_batches(int64_t step) const {
  const int64_t units = first_unit(step + 1) - first_unit(step);
  return (units + options_.batch_size - 1) / options_.batch_size;
}

std::vector<int64_t> ExampleBatches::examples(int64_t step, int64_t micro) const {
  const int64_t epoch = step / steps_per_epoch();
  const int64_t first = first_unit(step) - epoch * units_ + micro * options_.batch_size;
  const int64_t end = std::min(first + options_.batch_size, first_unit(step + 1) - epoch * units_);
  std::vector<int64_t> examples;
  for (int64_t place = first; place < end; ++place) add_unit(epoch, place, examples);
  return examples;
}

int64_t ExampleBatches::tokens_of(const std::vector<int64_t>& examples, int64_t in_front) const {
  int64_t tokens = 0;
  for (const int64_t i : examples) tokens += in_front + lengths_[static_cast<size_t>(i)];
  return tokens;
}

int64_t ExampleBatches::most_tokens(int64_t steps, int64_t in_front) const {
  int64_t most = 0;
  if (steps / steps_per_epoch() > kMostUnits / units_) {
    if (packs_.empty()) {
      most = in_front + *std::max_element(lengths_.begin(), lengths_.end());
      return options_.batch_size * most;
    }
    for (int64_t place = 0; place < units_; ++place) {  // every epoch deals the first one's packs
      std::vector<int64_t> pack;
      add_unit(0, place, pack);
      most = std::max(most, tokens_of(pack, in_front));
    }
    return options_.batch_size * most;
  }
  for (int64_t step = 0; step < steps; ++step) {
    for (int64_t micro = 0, n = micro_batches(step); micro < n; ++micro)
      most = std::max(most, tokens_of(examples(step, micro), in_front));
  }
  return most;
}

void ExampleBatches::add_unit(int64_t epoch, int64_t place, std::vector<int64_t>& examples) const {
  if (packs_.empty()) {
    examples.push_back(order_.at(epoch, place));
    return;
  }
  if (options_.shuffle && epoch > 0) {
    const uint64_t key = Rng(options_.seed).split(kPackStream).at(static_cast<uint64_t>(epoch));
    place =
        static_cast<int64_t>(Permutation(static_cast<uint64_t>(units_), key)(static_cast<uint64_t>(place)));
  }
  const Pack& pack = packs_[static_cast<size_t>(place)];
  for (int64_t i = pack.first; i < pack.end; ++i) examples.push_back(order_.at(0, i));
}

}  // namespace llmtool
