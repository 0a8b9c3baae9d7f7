#include "llmtool/core/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "llmtool/core/arena.h"

namespace llmtool {

int available_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

namespace {
// Parallel loops of a step follow each other within microseconds; waiting that long costs less than a
// wake-up.
constexpr int kSpins = 20000;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}
}  // namespace

struct ThreadPool::Impl {
  explicit Impl(int threads) : scratch(threads) {
    for (int w = 1; w < threads; ++w) workers.emplace_back([this, w] { work(w); });
  }

  ~Impl() {
    {
      std::lock_guard lock(mutex);
      stop = true;
      generation.fetch_add(1, std::memory_order_release);
    }
    wake.notify_all();
    for (auto& t : workers) t.join();
  }

  void work(int worker) {
    uint64_t seen = 0;
    for (;;) {
      uint64_t now = generation.load(std::memory_order_acquire);
      for (int spin = 0; now == seen && spin < kSpins; ++spin) {
        pause();
        now = generation.load(std::memory_order_acquire);
      }
      if (now == seen) {
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] { return generation.load(std::memory_order_acquire) != seen; });
        now = generation.load(std::memory_order_acquire);
      }
      seen = now;
      if (stop) return;
      drain(worker);
      busy.fetch_sub(1, std::memory_order_acq_rel);
    }
  }

  void drain(int worker) {
    for (;;) {
      const int64_t i = next.fetch_add(1, std::memory_order_relaxed);
      if (i >= count) return;
      try {
        (*task)(i, worker);
      } catch (...) {
        std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
        next.store(count, std::memory_order_relaxed);
      }
    }
  }

  std::vector<std::thread> workers;
  std::vector<MemoryBlock> scratch;
  std::mutex mutex;
  std::condition_variable wake;
  std::atomic<uint64_t> generation{0};
  std::atomic<int64_t> next{0};
  std::atomic<int> busy{0};
  int64_t count = 0;
  const std::function<void(int64_t, int)>* task = nullptr;
  std::exception_ptr failure;
  bool stop = false;
};

ThreadPool::ThreadPool(int threads)
    : impl_(std::make_unique<Impl>(threads > 0 ? threads : available_cores())) {}
ThreadPool::~ThreadPool() = default;

int ThreadPool::size() const { return static_cast<int>(impl_->scratch.size()); }

void ThreadPool::run(int64_t count, const std::function<void(int64_t, int)>& task) {
  Impl& p = *impl_;
  if (count <= 1 || p.workers.empty()) {
    for (int64_t i = 0; i < count; ++i) task(i, 0);
    return;
  }
  p.task = &task;
  p.count = count;
  p.failure = nullptr;
  p.next.store(0, std::memory_order_relaxed);
  p.busy.store(static_cast<int>(p.workers.size()), std::memory_order_relaxed);
  {
    std::lock_guard lock(p.mutex);
    p.generation.fetch_add(1, std::memory_order_release);
  }
  p.wake.notify_all();
  p.drain(0);
  for (int spin = 0; p.busy.load(std::memory_order_acquire) != 0; ++spin) {
    spin < kSpins ? pause() : std::this_thread::yield();
  }
  if (p.failure) std::rethrow_exception(p.failure);
}

void* ThreadPool::scratch(int worker, size_t bytes) {
  MemoryBlock& block = impl_->scratch[worker];
  if (block.size() < bytes) block = MemoryBlock(bytes);
  return block.data();
}

}  // namespace llmtool
