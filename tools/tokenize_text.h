#pragma once
// What `tokenize` does with text, beside its flags.

#include <nlohmann/json.hpp>

#include "llmtool/data/corpus.h"

namespace llmtool {

/// A line of ids per document (a file, or a row of a .jsonl file); with `json` rows {"ids", "pieces"}.
CorpusCounts print_ids(ThreadPool& pool, const Tokenizer& tokenizer, const CorpusOptions& corpus, bool json);
/// The inverse: the texts, line breaks between them; with `json` rows {"text"}.
void print_text(const Tokenizer& tokenizer, const CorpusOptions& corpus, bool json);
/// Encodes the rows' `text` and compares with their `ids`; where they have `decoded`, that with the text of
/// the ids. Prints what differs; 1 where anything does, else 0.
int check_tokenizer(const Tokenizer& tokenizer, const std::string& rows, const EncodeOptions& options,
                    bool json);
/// Renders rows {"messages", "tools", "add_generation_prompt", ...} through the model's chat template: the
/// texts, or with `json` rows {"text", "ids"}.
/// `origin` is where the tokenizer comes from.
void print_rendered(const Tokenizer& tokenizer, const std::string& origin,
                    const std::vector<std::string>& inputs, bool json);
nlohmann::ordered_json inspect_tokenizer(ThreadPool& pool, const Tokenizer& tokenizer,
                                         const CorpusOptions& corpus);

}  // namespace llmtool
