#include "train/base_model.h"

#include "llmtool/core/error.h"

namespace llmtool {

void check_writable(const ModelSource& base, const char* key) {
  if (base.config().rope_scaling.scaling != RopeScaling::factors) return;
  throw UsageError(
      cat(key, ": ", base.path().string(),
          ": rope_freqs.weight: the config.json that training writes has no key for these factors"));
}

}  // namespace llmtool
