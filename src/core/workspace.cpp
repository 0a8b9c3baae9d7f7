#include "llmtool/core/workspace.h"

namespace llmtool {

void Workspace::run(const std::function<void(Exec&)>& computation) {
  Arena saved, scratch;
  Exec dry{pool_, saved, scratch, rng_};
  computation(dry);
  const auto provide = [](std::unique_ptr<Arena>& arena, size_t bytes) {
    if (arena && arena->capacity() >= bytes) return;
    arena.reset();  // first, so that both never exist
    arena = std::make_unique<Arena>(bytes);
  };
  provide(saved_, saved.peak());
  provide(scratch_, scratch.peak());
  Exec exec{pool_, *saved_, *scratch_, rng_};
  computation(exec);
}

}  // namespace llmtool
