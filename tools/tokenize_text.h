#pragma once
// What `tokenize` does with text, beside its flags.

#include <nlohmann/json.hpp>

#include "llmtool/data/corpus.h"
#include "llmtool/text/train_tokenizer.h"

namespace llmtool {

TokenizerTrainingResult train_on_corpus(const TokenizerTraining& training, const CorpusOptions& corpus,
                                        CorpusCounts& counts);
/// A line of ids per line of text (or, of .jsonl inputs, per row); with `json` rows {"ids", "pieces"}.
CorpusCounts print_ids(ThreadPool& pool, const Tokenizer& tokenizer, const CorpusOptions& corpus, bool json);
/// The inverse; with `json` rows {"text"}.
void print_text(const Tokenizer& tokenizer, const CorpusOptions& corpus, bool json);
nlohmann::ordered_json inspect_tokenizer(ThreadPool& pool, const Tokenizer& tokenizer, const CorpusOptions& corpus);

}  // namespace llmtool
