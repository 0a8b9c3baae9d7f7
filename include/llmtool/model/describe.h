#pragma once
// What a model is made of, and the memory it takes.

#include <string>
#include <utility>
#include <vector>

#include "llmtool/core/thread_pool.h"
#include "llmtool/model/model_source.h"

namespace llmtool {

/// A model's weights, as its files hold them.
struct Weights {
  /// Elements of the embedding, attention, feed-forward part, norms and head (0 where it is the embedding).
  std::vector<std::pair<std::string, int64_t>> parts;
  int64_t count = 0;         // elements of all parts
  DType dtype = DType::f32;  // of most elements
  size_t bytes = 0;  // as they are used: where they lie in the file, or f32 where they have to be reordered
};
/// Throws Error where the files lack one.
Weights describe_weights(const ModelSource& source);

/// Bytes, found by dry runs.
struct MemoryNeeds {
  size_t run = 0;  // caches of `batch` sequences of `context` positions and a step's scratch; without weights
  size_t train_full = 0;  // weights in f32, gradients, both moments of AdamW, activations
  size_t train_lora = 0;  // weights in f32, activations, and adapters of rank 8 on queries and values
};
MemoryNeeds memory_needs(const ModelConfig& config, ThreadPool& pool, int64_t batch, int64_t context);

}  // namespace llmtool
