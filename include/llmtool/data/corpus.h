#pragma once
// Corpus: the text of many files, read piece by piece.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "llmtool/core/thread_pool.h"
#include "llmtool/text/tokenizer.h"
#include "llmtool/text/train_tokenizer.h"

namespace llmtool {

struct CorpusOptions {
  std::vector<std::string> inputs;  // files, folders, globs; "-": standard input
  std::string field = "text";       // of the rows of .jsonl files
  std::string format = "auto";      // auto (by the file's name), text, jsonl
  bool strict = false;              // what would be repaired is an Error
  bool words_only = false;          // pieces are cut only between two words, and NUL is kept
  EncodeOptions encoding = {};      // of encode_corpus()
};

/// What was read, and what was not as it should be.
struct CorpusCounts {
  int64_t files = 0, documents = 0, bytes = 0, characters = 0;  // bytes and characters of text
  int64_t invalid_bytes = 0;                                    // not UTF-8: each became U+FFFD
  int64_t nul_bytes = 0;                                        // left out
  int64_t skipped_files = 0;                                    // in folders: of other kinds
  std::string repairs() const;  // "3 bytes that are not UTF-8 replaced", "" where there were none
};

/// The files behind the inputs, sorted within each. Throws UsageError where an input is nothing.
std::vector<std::string> list_inputs(const CorpusOptions& options, CorpusCounts& counts);

/// A piece of a document: valid UTF-8 without NUL. Documents come in order, each as one or more pieces;
/// pieces are cut behind a line break, else before a space, else (after 1 MB without either) between
/// characters; with words_only, not before 16 MB, before a space between two letters, else (after 64 MB)
/// between characters.
struct CorpusPiece {
  std::string text;
  bool first = true, last = true;  // of its document
};

/// Calls sink for each piece. A .txt file is a document, as is a row of a .jsonl file; .gz and .zst are
/// unpacked. Throws Error naming file and line.
CorpusCounts read_corpus(const CorpusOptions& options, const std::function<void(CorpusPiece&&)>& sink);

/// The corpus as ids, in order, encoded on all threads, and cut as the tokenizer needs it. sink gets each
/// piece's ids and whether its document ends there.
CorpusCounts encode_corpus(ThreadPool& pool, const Tokenizer& tokenizer, const CorpusOptions& options,
                           const std::function<void(std::vector<TokenId>&& ids, bool document_ends)>& sink);

/// Trains a tokenizer on the corpus, of which only the lines sampled are held in memory.
TokenizerTrainingResult train_tokenizer_on(const TokenizerTraining& training, const CorpusOptions& corpus,
                                           CorpusCounts& counts);

}  // namespace llmtool
