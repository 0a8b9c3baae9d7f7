#pragma once
// ThreadPool: the one set of threads of a program.

#include <cstdint>
#include <functional>
#include <memory>

namespace llmtool {

/// Runs numbered tasks on a fixed number of threads, the caller's among them. Which thread runs a task is
/// left to chance, so a task's result must depend on its number alone.
class ThreadPool {
 public:
  explicit ThreadPool(int threads = 0);  // 0: the cores that this process may use
  ~ThreadPool();

  int size() const;

  /// Calls task(i, worker) for every i in [0, count), worker in [0, size()); returns when all are done. The
  /// first exception of a task is thrown here. Not to be called from inside a task.
  void run(int64_t count, const std::function<void(int64_t i, int worker)>& task);

  /// Scratch of at least `bytes` that belongs to one worker, 64-byte aligned; kept between calls.
  void* scratch(int worker, size_t bytes);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

int available_cores();  // cores of the affinity mask, at least 1

}  // namespace llmtool
