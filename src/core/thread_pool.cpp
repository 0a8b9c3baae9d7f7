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
// Parallel loops of a step follow each other within microseconds: waiting for the next costs less than a
// wake-up. On a machine with other work, who waits gives way to it.
constexpr int kPauses = 2000, kYields = 200;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/// Waits until `ready()`, for so long; returns whether it came.
template <class Ready>
bool spin_until(Ready ready) {
  for (int i = 0; i < kPauses; ++i, pause()) {
    if (ready()) return true;
  }
  for (int i = 0; i < kYields; ++i, std::this_thread::yield()) {
    if (ready()) return true;
  }
  return false;
}
}  // namespace

// The caller takes part, and waits for tasks that others have begun, never for a thread that has not woken:
// one that comes late finds nothing left.
struct ThreadPool::Impl {
  explicit Impl(int threads) : scratch(threads) {
    for (int w = 1; w < threads; ++w) workers.emplace_back([this, w] { work(w); });
  }

  ~Impl() {
    {
      std::lock_guard lock(mutex);
      stop = true;
    }
    wake.notify_all();
    for (auto& t : workers) t.join();
  }

  bool idle() const { return (open.load() & kCount) == 0 && !stop.load(); }

  void work(int worker) {
    for (;;) {
      if (!spin_until([&] { return !idle(); })) {
        std::unique_lock lock(mutex);
        ++sleeping;
        wake.wait(lock, [&] { return !idle(); });
        --sleeping;
      }
      if (stop) return;
      drain(worker);
    }
  }

  /// Takes open tasks until there is none.
  void drain(int worker) {
    uint64_t seen = open.load();
    while ((seen & kCount) != 0) {
      if (!open.compare_exchange_weak(seen, seen - 1)) continue;
      // From here to ++done this job stays.
      try {
        if (!failed) (*task)(count - static_cast<int64_t>(seen & kCount), worker);
      } catch (...) {
        std::lock_guard lock(mutex);
        if (!failed.exchange(true)) failure = std::current_exception();
      }
      ++done;
      seen = open.load();
    }
  }

  void start(int64_t tasks, const std::function<void(int64_t, int)>& what) {
    task = &what;
    count = tasks;
    done = 0;
    failed = false;
    open = ++job << kCountBits | static_cast<uint64_t>(tasks);
    if (sleeping == 0) return;
    { std::lock_guard lock(mutex); }  // who is about to sleep has not looked yet, or sleeps
    wake.notify_all();
  }

  static constexpr int kCountBits = 32;
  static constexpr uint64_t kCount = (uint64_t{1} << kCountBits) - 1;

  std::vector<std::thread> workers;
  std::vector<MemoryBlock> scratch;
  std::mutex mutex;
  std::condition_variable wake;
  std::atomic<uint64_t> open{0};  // the job's number and, below, how many of its tasks nobody has taken
  std::atomic<int64_t> done{0};
  std::atomic<int> sleeping{0};
  std::atomic<bool> failed{false}, stop{false};
  uint64_t job = 0;
  int64_t count = 0;
  const std::function<void(int64_t, int)>* task = nullptr;
  std::exception_ptr failure;
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
  p.start(count, task);
  p.drain(0);
  while (!spin_until([&] { return p.done == count; })) {
  }
  if (p.failed) std::rethrow_exception(p.failure);
}

void* ThreadPool::scratch(int worker, size_t bytes) {
  MemoryBlock& block = impl_->scratch[worker];
  if (block.size() < bytes) block = MemoryBlock(bytes);
  return block.data();
}

}  // namespace llmtool
