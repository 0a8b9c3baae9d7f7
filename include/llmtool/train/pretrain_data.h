#pragma once
// The data of a pretraining run: its tokenizer, its training windows, its validation stream.

#include <filesystem>
#include <memory>

#include "llmtool/core/thread_pool.h"
#include "llmtool/data/windows.h"
#include "llmtool/train/pretrain_config.h"

namespace llmtool {

struct PretrainData {
  std::shared_ptr<const Tokenizer> tokenizer;  // nullptr: shards without one
  std::vector<WindowSampler::Source> training;
  TokenStream validation;
  uint64_t hash = 0;  // of all tokens, training and validation apart
};

/// Trains a tokenizer where none is named, encodes text into shards under `work` (found again by a later
/// run), splits, and checks every id against vocab_size (0: the tokenizer's). Throws Error naming the source.
PretrainData prepare_data(ThreadPool& pool, const PretrainConfig& config, const std::filesystem::path& work);

}  // namespace llmtool
