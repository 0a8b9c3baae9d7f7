#include "llmtool/core/tensor.h"

#include <gtest/gtest.h>

#include <cstdint>

#include "llmtool/core/arena.h"
#include "llmtool/core/error.h"

namespace llmtool {
namespace {

TEST(Shape, KnowsItsSizeAndText) {
  EXPECT_EQ(Shape({2, 3, 4}).size(), 24);
  EXPECT_EQ(Shape().size(), 1);
  EXPECT_EQ(Shape({5, 0}).size(), 0);
  EXPECT_EQ(Shape({2, 3}).text(), "(2, 3)");
  EXPECT_EQ(Shape().text(), "()");
  EXPECT_EQ(Shape({2, 3}), Shape({2, 3}));
  EXPECT_FALSE(Shape({2, 3}) == Shape({2, 3, 1}));
  EXPECT_THROW(Shape({1, 2, 3, 4, 5}), Error);
}

TEST(Tensor, IsAMatrixOfItsLastDimension) {
  float values[24];
  for (int i = 0; i < 24; ++i) values[i] = static_cast<float>(i);
  const Tensor t(values, {2, 3, 4});
  EXPECT_EQ(t.rows(), 6);
  EXPECT_EQ(t.cols(), 4);
  EXPECT_EQ(t.bytes(), 96u);
  EXPECT_EQ(matrix(t)(5, 3), 23);
  EXPECT_EQ(array(t).sum(), 276);
  EXPECT_TRUE(t);
  EXPECT_FALSE(Tensor());
  EXPECT_EQ(Tensor(values, {3, 0}).rows(), 0);
}

TEST(Tensor, CountsBytesByType) {
  EXPECT_EQ(Tensor(nullptr, DType::bf16, {3, 5}).bytes(), 30u);
  EXPECT_EQ(Tensor(nullptr, DType::f16, {3, 5}).bytes(), 30u);
  EXPECT_EQ(Tensor(nullptr, DType::i32, {3, 5}).bytes(), 60u);
  EXPECT_STREQ(dtype_name(DType::bf16), "bf16");
  EXPECT_EQ(Tensor(nullptr, DType::f8_e4m3, {3, 5}).bytes(), 15u);
  EXPECT_EQ(Tensor(nullptr, DType::q8_0, {3, 64}).bytes(), 6 * 34u);
  EXPECT_EQ(Tensor(nullptr, DType::q4_0, {3, 0}).bytes(), 0u);
  EXPECT_EQ(dtype_bytes(DType::q6_k, 512), 2 * 210u);
  EXPECT_EQ(dtype_block(DType::q4_k).elements, 256);
  EXPECT_STREQ(dtype_name(DType::q6_k), "q6_k");
  EXPECT_THROW(dtype_bytes(DType::q4_1, 31), Error);
  EXPECT_THROW(dtype_bytes(DType::q5_k, 32), Error);
}

TEST(Arena, HandsOutAlignedBuffersThatDoNotOverlap) {
  Arena arena(4096);
  float* const a = arena.floats(3);
  float* const b = arena.floats(100);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(a) % 64, 0u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(b) % 64, 0u);
  EXPECT_GE(b, a + 3);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(a[i], 0);  // fresh memory is zeroed
}

TEST(Arena, MeasuringTakesWhatTheRealRunTakes) {
  Arena measuring;
  const auto step = [](Arena& arena) {
    const ArenaScope outer(arena);
    arena.floats(10);
    {
      const ArenaScope inner(arena);
      arena.take({7, 5}, DType::bf16);
    }
    arena.floats(1);
  };
  step(measuring);
  EXPECT_TRUE(measuring.measuring());
  EXPECT_EQ(measuring.mark(), 0u);
  Arena real(measuring.peak());
  EXPECT_FALSE(real.measuring());
  EXPECT_NO_THROW(step(real));
  EXPECT_EQ(real.peak(), measuring.peak());
  EXPECT_EQ(measuring.peak(), 64u + 128u);  // 40 and 70 bytes, each rounded up to 64
}

TEST(Arena, RefusesWhatDoesNotFit) {
  Arena arena(256);
  arena.floats(64);
  EXPECT_THROW(arena.floats(1), Error);
}

TEST(Arena, AScopeGivesBack) {
  Arena arena(256);
  float* first = nullptr;
  {
    const ArenaScope scope(arena);
    first = arena.floats(64);
  }
  EXPECT_EQ(arena.floats(64), first);
}

TEST(MemoryBlock, MovesAndRefuses) {
  MemoryBlock a(100);
  std::byte* const data = a.data();
  MemoryBlock b(std::move(a));
  EXPECT_EQ(b.data(), data);
  EXPECT_EQ(b.size(), 100u);
  MemoryBlock c;
  c = std::move(b);
  EXPECT_EQ(c.data(), data);
  EXPECT_THROW(MemoryBlock(size_t{1} << 62), Error);
}

}  // namespace
}  // namespace llmtool
