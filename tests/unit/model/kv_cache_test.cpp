// The cache of keys and values: its types, windows and cuts.

#include "llmtool/model/kv_cache.h"

#include <gtest/gtest.h>

#include <cmath>

#include "llmtool/core/error.h"
#include "llmtool/model/transformer.h"
#include "reference.h"

namespace llmtool {
namespace {

using reference::Machine;
using Logits = std::vector<float>;
constexpr int64_t kVocabulary = 50, kContext = 1700;

/// Every other layer has a window.
ModelConfig config_of(int64_t window) {
  ModelConfig c = ModelConfig::of_family("gemma2");
  c.vocab_size = kVocabulary;
  c.hidden_size = 32;
  c.intermediate_size = 48;
  c.num_hidden_layers = 3;
  c.num_attention_heads = 2;
  c.num_key_value_heads = 1;
  c.head_dim = 32;
  c.max_position_embeddings = kContext;
  c.sliding_window = window;
  c.initializer_range = 0.3;
  return c;
}

std::vector<int32_t> random_ids(size_t n, uint64_t seed) {
  Rng rng(seed);
  std::vector<int32_t> ids(n);
  for (int32_t& id : ids) id = static_cast<int32_t>(rng.below(kVocabulary));
  return ids;
}

class Cache : public ::testing::Test {
 protected:
  explicit Cache(int64_t window = 16) : model(config_of(window)) { model.initialize(1); }

  Logits read(std::span<const int32_t> ids, KvCache& cache, int64_t rows = 1) {
    Logits logits(static_cast<size_t>(rows * kVocabulary));
    model.forward(machine.exec, ids, cache, Tensor(logits.data(), {rows, kVocabulary}));
    return logits;
  }
  /// `at_once` ids in a pass.
  Logits decode(std::span<const int32_t> ids, KvCache& cache, size_t at_once = 1) {
    Logits all;
    for (size_t first = 0; first < ids.size(); first += at_once) {
      const auto some = ids.subspan(first, std::min(at_once, ids.size() - first));
      const std::vector<KvCache*> caches(some.size(), &cache);
      Logits logits(some.size() * kVocabulary);
      model.decode(machine.exec, some, caches,
                   Tensor(logits.data(), {static_cast<int64_t>(some.size()), kVocabulary}));
      all.insert(all.end(), logits.begin(), logits.end());
    }
    return all;
  }
  KvCache cache(DType type = DType::f32, bool whole = false) const {
    return KvCache(model.config(), kContext, type, whole);
  }

  Transformer model;
  Machine machine;
};

double distance(const Logits& a, const Logits& b) {
  return reference::distance(a, reference::Values<double>(b.begin(), b.end()));
}

TEST_F(Cache, AWindowKeepsItsLastPositionsAndChangesNoBit) {
  const auto ids = random_ids(1500, 1), more = random_ids(60, 2);
  KvCache ring = cache(), whole = cache(DType::f32, true);
  EXPECT_LT(ring.bytes(), whole.bytes());
  EXPECT_EQ(read(ids, ring, 3), read(ids, whole, 3));
  EXPECT_GT(ring.first_held(0), 0);
  EXPECT_EQ(ring.first_held(1), 0);
  EXPECT_EQ(decode(more, ring), decode(more, whole));
  EXPECT_EQ(read(more, ring), read(more, whole));
  ASSERT_TRUE(ring.can_cut(1520));
  ring.cut(1520);
  whole.cut(1520);
  EXPECT_EQ(read(more, ring), read(more, whole));
  EXPECT_FALSE(ring.can_cut(700));
  EXPECT_THROW(ring.cut(700), Error);
  EXPECT_TRUE(ring.can_cut(0));
}

TEST_F(Cache, ACopyOfABeginningGoesOnAsTheTextItself) {
  const auto ids = random_ids(1300, 1), more = random_ids(40, 2);
  KvCache text = cache(), copy = cache(), shorter(model.config(), 400);
  read(ids, text, 0);
  copy.copy_from(text, 1250);
  text.cut(1250);
  EXPECT_FALSE(copy.can_cut(640));
  EXPECT_TRUE(copy.can_cut(900));
  EXPECT_EQ(read(more, copy), read(more, text));
  KvCache few = cache();
  read(std::span(ids).first(300), few, 0);
  shorter.copy_from(few, 250);  // of other rows, with another number of slots
  few.cut(250);
  EXPECT_EQ(read(more, shorter), read(more, few));
  EXPECT_THROW(shorter.copy_from(text, 500), Error);
}

TEST_F(Cache, TokensOfOnePassHaveTheBitsOfOneAtATime) {
  const auto ids = random_ids(120, 1), more = random_ids(35, 2);
  for (const DType type : {DType::f32, DType::f16, DType::q8_0}) {
    KvCache one = cache(type), several = cache(type);
    read(ids, one, 0);
    read(ids, several, 0);
    EXPECT_EQ(decode(more, one), decode(more, several, 9)) << dtype_name(type);
    EXPECT_EQ(several.length, 155);
  }
}

TEST_F(Cache, ATextHasTheSameBitsInWhateverPiecesItIsRead) {
  const auto ids = random_ids(700, 1);
  for (const DType type : {DType::f32, DType::f16, DType::q8_0}) {
    KvCache at_once = cache(type), pieces = cache(type);
    const Logits expected = read(ids, at_once);
    read(std::span(ids).first(1), pieces, 0);
    read(std::span(ids).subspan(1, 130), pieces, 0);
    read(std::span(ids).subspan(131, 568), pieces, 0);
    EXPECT_EQ(read(std::span(ids).subspan(699), pieces), expected) << dtype_name(type);
  }
}

/// f16 keeps 11 bits, so that keys and values are off by 2^-12 of themselves at most; q8_0 keeps 1/254 of a
/// block's greatest. The logits, of a model whose weights are wild, are held to that times a handful.
TEST_F(Cache, SmallerTypesAreNearTheFullOne) {
  const auto ids = random_ids(400, 1), more = random_ids(20, 2);
  KvCache full = cache(), half = cache(DType::f16), byte = cache(DType::q8_0);
  EXPECT_NEAR(static_cast<double>(half.bytes()) / static_cast<double>(full.bytes()), 0.5, 1e-9);
  EXPECT_NEAR(static_cast<double>(byte.bytes()) / static_cast<double>(full.bytes()), 34.0 / 128, 1e-9);
  const Logits expected = read(ids, full), decoded = decode(more, full);
  const double halves = distance(read(ids, half), expected), bytes = distance(read(ids, byte), expected);
  EXPECT_LT(halves, 8.0 / 4096);
  EXPECT_GT(halves, 0);
  EXPECT_LT(bytes, 8.0 / 254);
  EXPECT_GT(bytes, halves);
  EXPECT_LT(distance(decode(more, half), decoded), 8.0 / 4096);
  EXPECT_LT(distance(decode(more, byte), decoded), 8.0 / 254);
}

TEST_F(Cache, RefusesWhatCannotBeStored) {
  ModelConfig c = config_of(0);
  c.head_dim = 24;
  const Transformer other(c);
  EXPECT_THROW(KvCache(other.config(), 10, DType::q8_0), UsageError);
  EXPECT_NO_THROW(KvCache(other.config(), 10, DType::f16));
  EXPECT_THROW(KvCache(other.config(), 10, DType::q4_0), UsageError);
  EXPECT_THROW(kv_cache_type("q4_0"), UsageError);
  EXPECT_EQ(kv_cache_type("q8_0"), DType::q8_0);
}

TEST_F(Cache, ADecodeThatDoesNotFitIsRefused) {
  KvCache small(model.config(), 12);
  read(random_ids(10, 1), small, 0);
  EXPECT_EQ(model.room(small), 2);
  EXPECT_THROW(decode(random_ids(3, 2), small, 3), Error);
  EXPECT_EQ(small.length, 10);
  decode(random_ids(2, 2), small, 2);
  EXPECT_EQ(model.room(small), 0);
}

}  // namespace
}  // namespace llmtool
