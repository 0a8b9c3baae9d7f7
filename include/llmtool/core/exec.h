#pragma once
// Exec: what a computation runs with; passed, never global.

#include "llmtool/core/arena.h"
#include "llmtool/core/rng.h"
#include "llmtool/core/thread_pool.h"

namespace llmtool {

/// Threads and memory of a step. `saved` holds what backward needs, `scratch` what a call needs while it
/// runs, `rng` is the stream that dropout draws from. In a dry run (measuring arenas) kernels take their
/// memory and return without touching an element.
struct Exec {
  ThreadPool& pool;
  Arena& saved;
  Arena& scratch;
  Rng rng;

  bool dry() const { return scratch.measuring(); }
};

}  // namespace llmtool
