#pragma once
// Longer contexts than a model was trained for.

#include <memory>

#include "llmtool/model/model_source.h"

namespace llmtool {

/// A context, and the rotary scaling that reaches it.
struct ContextSettings {
  int64_t context = 0;           // positions; 0: as many as the model, or the scaling, has
  std::string scaling = "none";  // linear, dynamic or yarn: see RopeScaling
  double factor = 0;             // of the scaling; 0: the context over the trained one
};

/// The same files with a longer context. Throws UsageError where the trained context does not reach and no
/// scaling is named, where the scaling does not reach, and where the model has no rotary positions or a
/// scaling of its own.
std::shared_ptr<const ModelSource> with_context(std::shared_ptr<const ModelSource> source,
                                                const ContextSettings& settings);

}  // namespace llmtool
