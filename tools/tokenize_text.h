#pragma once
// What `tokenize` does with text, beside its flags.

#include <nlohmann/json.hpp>

#include "llmtool/data/corpus.h"

namespace llmtool {

/// A line of ids per document (a file, or a row of a .jsonl file); with `json` rows {"ids", "pieces"}.
CorpusCounts print_ids(ThreadPool& pool, const Tokenizer& tokenizer, const CorpusOptions& corpus, bool json);
/// The inverse: the texts, line breaks between them; with `json` rows {"text"}.
void print_text(const Tokenizer& tokenizer, const CorpusOptions& corpus, bool json);
nlohmann::ordered_json inspect_tokenizer(ThreadPool& pool, const Tokenizer& tokenizer,
                                         const CorpusOptions& corpus);

}  // namespace llmtool
