#pragma once
// What a model is made of, and the memory it takes.

#include <string>
#include <utility>
#include <vector>

#include "llmtool/core/thread_pool.h"
#include "llmtool/model/model_config.h"

namespace llmtool {

/// Elements of the embedding, attention, feed-forward part, norms and head (0 where it is the embedding).
std::vector<std::pair<std::string, int64_t>> parameters_by_part(const ModelConfig& config);

/// Bytes, with weights in f32; found by dry runs.
struct MemoryNeeds {
  size_t run = 0;         // weights, caches of `batch` sequences of `context` positions, a step's scratch
  size_t train_full = 0;  // weights, gradients, both moments of AdamW, activations
  size_t train_lora = 0;  // weights, activations, and adapters of rank 8 on queries and values
};
MemoryNeeds memory_needs(const ModelConfig& config, ThreadPool& pool, int64_t batch, int64_t context);

}  // namespace llmtool
