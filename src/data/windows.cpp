#include "llmtool/data/windows.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "llmtool/core/error.h"
#include "llmtool/core/rng.h"

namespace llmtool {

void TokenStream::add(std::shared_ptr<const TokenShard> shard, int64_t begin, int64_t end) {
  if (end <= begin) return;
  if (!parts_.empty() && parts_.back().shard == shard && parts_.back().begin + parts_.back().size == begin) {
    parts_.back().size += end - begin;
  } else {
    parts_.push_back({std::move(shard), begin, size_, end - begin});
  }
  size_ += end - begin;
}

void TokenStream::copy(int64_t first, int64_t count, TokenId* ids) const {
  auto part = std::upper_bound(parts_.begin(), parts_.end(), first,
                               [](int64_t at, const Part& p) { return at < p.start; });
  for (--part; count > 0; ++part) {
    const int64_t from = first - part->start, n = std::min(count, part->size - from);
    part->shard->copy(part->begin + from, n, ids);
    first += n;
    ids += n;
    count -= n;
  }
}

uint64_t TokenStream::hash() const {
  uint64_t hash = 0;
  std::vector<TokenId> block(1 << 16);
  for (int64_t first = 0; first < size_; first += 1 << 16) {
    const int64_t n = std::min<int64_t>(1 << 16, size_ - first);
    copy(first, n, block.data());
    hash = mix64(hash ^ hash64(std::as_bytes(std::span(block).first(static_cast<size_t>(n)))));
  }
  return hash;
}

void split_by_document(const std::shared_ptr<const TokenShard>& shard, double fraction, uint64_t seed,
                       TokenStream& training, TokenStream& validation) {
  constexpr size_t kFew = 20;
  std::vector<int64_t> ends;
  std::vector<TokenId> block(1 << 16);
  for (int64_t first = 0; shard->eos() >= 0 && first < shard->size(); first += 1 << 16) {
    const int64_t n = std::min<int64_t>(1 << 16, shard->size() - first);
    shard->copy(first, n, block.data());
    for (int64_t i = 0; i < n; ++i) {
      if (block[static_cast<size_t>(i)] == shard->eos()) ends.push_back(first + i + 1);
    }
  }
  if (ends.empty() || ends.back() < shard->size()) ends.push_back(shard->size());
  if (ends.size() < kFew) {
    const auto cut = static_cast<int64_t>(static_cast<double>(shard->size()) * (1 - fraction));
    training.add(shard, 0, cut);
    validation.add(shard, cut, shard->size());
    return;
  }
  const Permutation order(ends.size(), seed);
  const auto held_out = static_cast<uint64_t>(std::ceil(fraction * static_cast<double>(ends.size())));
  int64_t begin = 0;
  for (size_t d = 0; d < ends.size(); ++d) {
    (order(d) < held_out ? validation : training).add(shard, begin, ends[d]);
    begin = ends[d];
  }
}

Permutation::Permutation(uint64_t n, uint64_t key)
    : n_(n),
      key_(key),
      half_bits_(std::max(1, (static_cast<int>(std::bit_width(n > 0 ? n - 1 : 0)) + 1) / 2)) {}

uint64_t Permutation::operator()(uint64_t i) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  do {
    uint64_t left = i >> half_bits_, right = i & mask;
    for (uint64_t round = 0; round < 4; ++round) {
      const uint64_t next = left ^ (mix64(key_ ^ mix64(right + (round << 48) + 1)) & mask);
      left = right;
      right = next;
    }
    i = left << half_bits_ | right;
  } while (i >= n_);
  return i;
}

WindowSampler::WindowSampler(std::vector<Source> sources, int64_t length, uint64_t seed)
    : sources_(std::move(sources)), length_(length), seed_(seed) {
  double weights = 0;
  for (size_t i = 0; i < sources_.size(); ++i) {
    total_ += windows_of(i);
    weights += sources_[i].weight;
  }
  if (weights <= 0) return;
  uint64_t given = 0;
  size_t largest = 0;
  for (size_t i = 0; i < sources_.size(); ++i) {
    if (sources_[i].weight > 0 && windows_of(i) == 0) {
      throw Error(cat("[data] source ", i, " has a weight but no window of ", length_, " tokens"));
    }
    shares_.push_back(static_cast<uint64_t>(sources_[i].weight / weights * static_cast<double>(kPattern)));
    given += shares_.back();
    if (sources_[i].weight > sources_[largest].weight) largest = i;
  }
  shares_[largest] += kPattern - given;
}

int64_t WindowSampler::windows_of(size_t i) const {
  const int64_t most = sources_[i].stream.windows(length_);
  return most > 1 ? (sources_[i].stream.size() - length_) / length_ : most;
}

WindowSampler::Place WindowSampler::place(uint64_t g) const {
  const auto window_of = [&](uint64_t number, uint64_t windows, uint64_t stream) {
    return Permutation(windows, Rng(seed_).split(stream).split(number / windows).key)(number % windows);
  };
  if (shares_.empty()) {
    const auto all = static_cast<uint64_t>(total_);
    uint64_t window = window_of(g, all, 0);
    for (size_t i = 0;; ++i) {
      const auto windows = static_cast<uint64_t>(windows_of(i));
      if (window < windows) return {i, window, g / all};
      window -= windows;
    }
  }
  // A block of kPattern samples is a shuffled list that holds each source as often as its share says.
  const uint64_t block = g / kPattern;
  const Permutation order(kPattern, Rng(seed_).split(~uint64_t{0}).split(block).key);
  uint64_t slot = order(g % kPattern);
  for (size_t i = 0;; ++i) {
    if (slot < shares_[i]) {
      const auto windows = static_cast<uint64_t>(windows_of(i));
      const uint64_t number = block * shares_[i] + slot;
      return {i, window_of(number, windows, i + 1), number / windows};
    }
    slot -= shares_[i];
  }
}

void WindowSampler::sample(uint64_t g, TokenId* inputs, TokenId* targets) const {
  const Place p = place(g);
  const TokenStream& stream = sources_[p.source].stream;
  const auto room = static_cast<uint64_t>(stream.size() - windows_of(p.source) * length_);
  Rng shift = Rng(seed_).split(p.source).split(~p.epoch);
  const auto offset = static_cast<int64_t>(shift.below(std::min(room, static_cast<uint64_t>(length_))));
  const int64_t first = static_cast<int64_t>(p.window) * length_ + offset;
  stream.copy(first, length_, inputs);
  std::copy(inputs + 1, inputs + length_, targets);
  stream.copy(first + length_, 1, targets + length_ - 1);
}

}  // namespace llmtool
