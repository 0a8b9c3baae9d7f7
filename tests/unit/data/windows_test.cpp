// The order of samples: no repetition within an epoch, the same whatever came before.

#include "llmtool/data/windows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "llmtool/core/error.h"
#include "support.h"

namespace llmtool {
namespace {

class Windows : public ::testing::Test {
 protected:
  /// A shard of the ids first, first + 1, ...
  std::shared_ptr<const TokenShard> shard(int64_t count, uint16_t first = 0) {
    std::string bytes;
    for (int64_t i = 0; i < count; ++i) {
      const auto id = static_cast<uint16_t>(first + i);
      bytes += static_cast<char>(id & 255);
      bytes += static_cast<char>(id >> 8);
    }
    const auto file = place / ("s" + std::to_string(++files) + ".bin");
    test::write_text(file, bytes);
    return std::make_shared<TokenShard>(file);
  }
  WindowSampler::Source source(int64_t count, uint16_t first = 0, double weight = 0) {
    WindowSampler::Source s;
    s.stream.add(shard(count, first), 0, count);
    s.weight = weight;
    return s;
  }
  test::TempFolder place;
  int files = 0;
};

TEST_F(Windows, APermutationReachesEveryPlaceOnce) {
  for (const uint64_t n : {1ull, 2ull, 3ull, 7ull, 64ull, 1000ull, 65537ull}) {
    for (const uint64_t key : {0ull, 1ull, ~0ull}) {
      const Permutation p(n, key);
      std::vector<bool> seen(n);
      for (uint64_t i = 0; i < n; ++i) {
        ASSERT_LT(p(i), n);
        ASSERT_FALSE(seen[p(i)]);
        seen[p(i)] = true;
      }
    }
  }
}

TEST_F(Windows, APermutationMixes) {
  const Permutation p(10000, 1), q(10000, 2);
  int fixed = 0, same = 0, following = 0;
  for (uint64_t i = 0; i + 1 < 10000; ++i) {
    fixed += p(i) == i;
    same += p(i) == q(i);
    following += p(i + 1) == p(i) + 1;
  }
  // One each is expected; more than ten come once in a million.
  EXPECT_LE(fixed, 10);
  EXPECT_LE(same, 10);
  EXPECT_LE(following, 10);
}

TEST_F(Windows, AStreamJoinsPartsOfShards) {
  const auto a = shard(10), b = shard(10, 100);
  TokenStream stream;
  stream.add(a, 2, 5);
  stream.add(a, 5, 6);
  stream.add(b, 0, 0);
  stream.add(b, 8, 10);
  EXPECT_EQ(stream.size(), 6);
  std::vector<TokenId> ids(4);
  stream.copy(2, 4, ids.data());
  EXPECT_EQ(ids, (std::vector<TokenId>{4, 5, 108, 109}));
  EXPECT_EQ(stream.windows(5), 1);
  EXPECT_EQ(stream.windows(6), 0);
  TokenStream other;
  other.add(a, 2, 6);
  EXPECT_NE(stream.hash(), other.hash());
}

TEST_F(Windows, AnEpochTakesEveryWindowOnceAndTheNextInOtherCuts) {
  constexpr int64_t kLength = 10;
  std::vector<WindowSampler::Source> sources;
  sources.push_back(source(1000));
  sources.push_back(source(555, 2000));
  const WindowSampler sampler(std::move(sources), kLength, 5);
  const auto windows = static_cast<uint64_t>(sampler.windows());
  EXPECT_GE(windows, 99u + 54u);
  std::vector<TokenId> inputs(kLength), targets(kLength);
  std::vector<std::vector<TokenId>> epochs(3);
  for (uint64_t epoch = 0; epoch < 3; ++epoch) {
    std::set<TokenId> seen;
    for (uint64_t i = 0; i < windows; ++i) {
      sampler.sample(epoch * windows + i, inputs.data(), targets.data());
      for (size_t t = 0; t < kLength; ++t) {
        ASSERT_EQ(targets[t], inputs[t] + 1);
        ASSERT_TRUE(seen.insert(targets[t]).second) << "a target twice";
      }
      epochs[epoch].push_back(inputs[0]);
    }
  }
  EXPECT_NE(epochs[0], epochs[1]);
  std::set<TokenId> phases;
  for (const auto& epoch : epochs) phases.insert(*std::min_element(epoch.begin(), epoch.end()) % kLength);
  EXPECT_GT(phases.size(), 1u);
}

TEST_F(Windows, ASampleDependsOnItsNumberAlone) {
  const auto make = [&](uint64_t seed) {
    std::vector<WindowSampler::Source> sources;
    sources.push_back(source(3000));
    return WindowSampler(std::move(sources), 7, seed);
  };
  const WindowSampler one = make(1), same = make(1), other = make(2);
  std::vector<TokenId> a(7), b(7), c(7), t(7);
  int differing = 0;
  for (uint64_t g = 900; g-- > 0;) {
    one.sample(g, a.data(), t.data());
    same.sample(899 - g, b.data(), t.data());
    same.sample(g, b.data(), t.data());
    other.sample(g, c.data(), t.data());
    EXPECT_EQ(a, b);
    differing += a != c;
  }
  EXPECT_GT(differing, 880);
}

TEST_F(Windows, WeightsAreKeptInEveryThousandSamples) {
  std::vector<WindowSampler::Source> sources;
  sources.push_back(source(100, 0, 1));
  sources.push_back(source(900, 1000, 2.5));
  sources.push_back(source(50, 5000, 0));
  const WindowSampler sampler(std::move(sources), 8, 3);
  std::vector<TokenId> inputs(8), targets(8);
  for (uint64_t block = 0; block < 3; ++block) {
    std::map<int, int> drawn;
    for (uint64_t i = 0; i < 1000; ++i) {
      sampler.sample(block * 1000 + i, inputs.data(), targets.data());
      ++drawn[inputs[0] < 1000 ? 0 : inputs[0] < 5000 ? 1 : 2];
    }
    EXPECT_EQ(drawn[0], 285);  // 1 / 3.5 of 1000
    EXPECT_EQ(drawn[1], 715);
    EXPECT_EQ(drawn[2], 0);
  }
}

TEST_F(Windows, AWeightWithoutAWindowIsRefused) {
  std::vector<WindowSampler::Source> sources;
  sources.push_back(source(100, 0, 1));
  sources.push_back(source(5, 1000, 1));
  EXPECT_THROW(WindowSampler(std::move(sources), 8, 3), Error);
}

TEST_F(Windows, DocumentsAreHeldOutWhole) {
  // 200 documents of 3 to 12 tokens, each ending in 0: a shard of our own.
  std::string bytes("llmtoks\n\1\0\0\0\2\0\0\0", 16);
  std::vector<uint16_t> ids;
  for (uint16_t d = 1; d <= 200; ++d) {
    for (int i = 0; i < 2 + d % 10; ++i) ids.push_back(d);
    ids.push_back(0);
  }
  const uint64_t count = ids.size();
  bytes.append(reinterpret_cast<const char*>(&count), 8);
  bytes.resize(64);  // EOS: 0
  bytes.append(reinterpret_cast<const char*>(ids.data()), ids.size() * 2);
  test::write_text(place / "d.bin", bytes);
  const auto documents = std::make_shared<TokenShard>(place / "d.bin");
  TokenStream training, validation, again, other, unused;
  split_by_document(documents, 0.1, 1, training, validation);
  EXPECT_EQ(training.size() + validation.size(), documents->size());
  const auto numbers = [](const TokenStream& stream) {
    std::vector<TokenId> all(static_cast<size_t>(stream.size()));
    stream.copy(0, stream.size(), all.data());
    std::set<TokenId> found(all.begin(), all.end());
    found.erase(0);
    return found;
  };
  EXPECT_EQ(numbers(validation).size(), 20u);
  for (const TokenId d : numbers(validation)) EXPECT_FALSE(numbers(training).contains(d));
  split_by_document(documents, 0.1, 1, unused, again);
  split_by_document(documents, 0.1, 2, unused, other);
  EXPECT_EQ(numbers(again), numbers(validation));
  EXPECT_NE(numbers(other), numbers(validation));
}

TEST_F(Windows, OneTextLosesItsEnd) {
  TokenStream training, validation;
  split_by_document(shard(1000), 0.1, 1, training, validation);
  EXPECT_EQ(training.size(), 900);
  TokenId first = 0;
  validation.copy(0, 1, &first);
  EXPECT_EQ(first, 900);
}

}  // namespace
}  // namespace llmtool
