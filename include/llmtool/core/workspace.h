#pragma once
// Workspace: the arenas of computations whose sizes are not known beforehand.

#include <functional>
#include <memory>

#include "llmtool/core/exec.h"

namespace llmtool {

/// Runs a computation twice: dry, to learn how much memory it takes, and in earnest. The memory is kept for
/// the next one.
class Workspace {
 public:
  explicit Workspace(ThreadPool& pool, Rng rng = Rng()) : pool_(pool), rng_(rng) {}
  void run(const std::function<void(Exec&)>& computation);

 private:
  ThreadPool& pool_;
  Rng rng_;
  std::unique_ptr<Arena> saved_, scratch_;
};

}  // namespace llmtool
