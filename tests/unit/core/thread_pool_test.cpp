#include "llmtool/core/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <vector>

#include "llmtool/core/error.h"

namespace llmtool {
namespace {

TEST(ThreadPool, RunsEveryTaskOnce) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.size(), threads);
    for (const int64_t count : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> calls(static_cast<size_t>(count));
      std::atomic<bool> strange_worker = false;
      pool.run(count, [&](int64_t i, int worker) {
        ++calls[static_cast<size_t>(i)];
        if (worker < 0 || worker >= threads) strange_worker = true;
      });
      for (const auto& c : calls) ASSERT_EQ(c, 1);
      EXPECT_FALSE(strange_worker);
    }
  }
}

TEST(ThreadPool, SurvivesManyShortLoops) {
  ThreadPool pool(4);
  std::atomic<int64_t> sum = 0;
  for (int loop = 0; loop < 2000; ++loop) pool.run(8, [&](int64_t i, int) { sum += i; });
  EXPECT_EQ(sum, 2000 * 28);
}

TEST(ThreadPool, ThrowsWhatATaskThrowsAndGoesOn) {
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    EXPECT_THROW(pool.run(100,
                          [](int64_t i, int) {
                            if (i == 41) throw Error("task 41");
                          }),
                 Error);
    std::atomic<int> calls = 0;
    pool.run(10, [&](int64_t, int) { ++calls; });
    EXPECT_EQ(calls, 10);
  }
}

TEST(ThreadPool, ScratchBelongsToOneWorkerAndGrows) {
  ThreadPool pool(2);
  void* const first = pool.scratch(0, 1000);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first) % 64, 0u);
  EXPECT_EQ(pool.scratch(0, 500), first);
  EXPECT_NE(pool.scratch(1, 1000), first);
  std::memset(pool.scratch(0, 1 << 20), 1, 1 << 20);
}

TEST(ThreadPool, UsesTheCoresOfThisProcessByDefault) {
  EXPECT_GE(available_cores(), 1);
  EXPECT_EQ(ThreadPool().size(), available_cores());
}

}  // namespace
}  // namespace llmtool
