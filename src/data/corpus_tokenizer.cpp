#include <deque>

#include "llmtool/data/corpus.h"

namespace llmtool {

TokenizerTrainingResult train_tokenizer_on(const TokenizerTraining& training, const CorpusOptions& corpus,
                                           CorpusCounts& counts) {
  // The trainer pulls, the corpus pushes: files are read one by one, whole pieces at a time.
  CorpusOptions one = corpus;
  const std::vector<std::string> files = list_inputs(corpus, counts);
  std::deque<std::string> pieces;
  size_t file = 0;
  std::string current;
  const TextSource source = [&](std::string_view& text) {
    while (pieces.empty()) {
      if (file == files.size()) return false;
      one.inputs = {files[file++]};
      const CorpusCounts read =
          read_corpus(one, [&](CorpusPiece&& piece) { pieces.push_back(std::move(piece.text)); });
      counts.files += read.files;
      counts.documents += read.documents;
      counts.bytes += read.bytes;
      counts.invalid_bytes += read.invalid_bytes;
      counts.nul_bytes += read.nul_bytes;
    }
    current = std::move(pieces.front());
    pieces.pop_front();
    text = current;
    return true;
  };
  return train_tokenizer(training, source);
}

}  // namespace llmtool
