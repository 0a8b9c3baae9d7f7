#pragma once
// The data of a run of fine-tuning: its tokenizer and its examples.

#include <memory>
#include <string>

#include "llmtool/core/thread_pool.h"
#include "llmtool/data/examples.h"
#include "llmtool/model/model_source.h"
#include "llmtool/train/finetune_config.h"

namespace llmtool {

struct FinetuneData {
  std::shared_ptr<const Tokenizer> tokenizer;
  int64_t known_tokens = 0;  // of the tokenizer without those that the config adds
  Examples examples;
};

/// Reads what the config names for the model behind `base`; the config is settled. Without data.labels the
/// labels are those of the base's classification head, where it has one. Throws UsageError, Error.
FinetuneData load_finetune_data(ThreadPool& pool, const FinetuneConfig& config, const ModelSource& base);

enum class PreviewStyle { plain, colour, json };
/// The first examples as they will be trained, for a reader, or a row of JSON each: origin, text, ids,
/// trained (whether each id is learnt), label. What the linter finds in all of them is said on stderr.
std::string preview_finetune(ThreadPool& pool, const FinetuneConfig& config, int64_t count,
                             PreviewStyle style);

}  // namespace llmtool
