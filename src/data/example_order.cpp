#include "llmtool/data/example_order.h"

#include <algorithm>

#include "llmtool/core/error.h"
#include "llmtool/core/rng.h"
#include "llmtool/data/windows.h"

namespace llmtool {

ExampleOrder::ExampleOrder(const ExampleSet& set, const std::vector<DataSource>& sources, bool shuffle,
                           uint64_t seed)
    : size_(set.size()), shuffle_(shuffle), seed_(seed) {
  double weights = 0;
  for (const DataSource& source : sources) weights += source.weight;
  if (weights <= 0) return;
  sources_.resize(sources.size());
  for (int64_t i = 0; i < set.size(); ++i) sources_[static_cast<size_t>(set.source(i))].examples.push_back(i);
  uint64_t given = 0;
  size_t largest = 0;
  for (size_t s = 0; s < sources.size(); ++s) {
    if (sources_[s].examples.empty())
      throw UsageError(cat("data.train: ", sources[s].path, " has a weight but no example"));
    sources_[s].share = static_cast<uint64_t>(sources[s].weight / weights * static_cast<double>(size_));
    given += sources_[s].share;
    if (sources[s].weight > sources[largest].weight) largest = s;
  }
  sources_[largest].share += static_cast<uint64_t>(size_) - given;
}

std::vector<double> ExampleOrder::repeats() const {
  std::vector<double> times;
  for (const Source& source : sources_)
    times.push_back(static_cast<double>(source.share) / static_cast<double>(source.examples.size()));
  return times;
}

uint64_t ExampleOrder::shuffled(uint64_t n, uint64_t i, uint64_t stream, uint64_t round) const {
  return shuffle_ ? Permutation(n, Rng(seed_).split(stream).split(round).key)(i) : i;
}

int64_t ExampleOrder::at(int64_t epoch, int64_t place) const {
  const auto round = static_cast<uint64_t>(epoch);
  uint64_t slot = shuffled(static_cast<uint64_t>(size_), static_cast<uint64_t>(place), ~uint64_t{0}, round);
  if (sources_.empty()) return static_cast<int64_t>(slot);
  for (size_t s = 0;; ++s) {
    const Source& source = sources_[s];
    if (slot >= source.share) {
      slot -= source.share;
      continue;
    }
    const uint64_t number = round * source.share + slot, n = source.examples.size();
    return source.examples[shuffled(n, number % n, s, number / n)];
  }
}

std::vector<Pack> pack_examples(std::span<const int64_t> lengths, int64_t length) {
  std::vector<Pack> packs;
  int64_t held = 0;
  for (int64_t i = 0; i < static_cast<int64_t>(lengths.size()); ++i) {
    const int64_t next = lengths[static_cast<size_t>(i)];
    if (packs.empty() || next > length - held) {
      packs.push_back({i, i});
      held = 0;
    }
    held += next;
    packs.back().end = i + 1;
  }
  return packs;
}

}  // namespace llmtool
