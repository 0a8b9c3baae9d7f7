#include "llmtool/prompt/bm25.h"

#include <cmath>

#include "text/unicode.h"

namespace llmtool {

std::vector<std::string> words_of(std::string_view text) {
  std::string spare;
  const std::string folded =
      unicode::lowercase(unicode::normalized(unicode::well_formed(text, spare), unicode::Form::nfkc));
  std::vector<std::string> words;
  bool within = false;
  for (size_t at = 0; at < folded.size();) {
    const size_t from = at;
    const bool letter = unicode::is_word(unicode::next(folded, at));
    if (letter && !within) words.emplace_back();
    if (letter) words.back().append(folded, from, at - from);
    within = letter;
  }
  return words;
}

Bm25Index::Bm25Index(const std::vector<std::string>& documents) {
  double total = 0;
  for (size_t d = 0; d < documents.size(); ++d) {
    const std::vector<std::string> words = words_of(documents[d]);
    for (const std::string& word : words) {
      Postings& list = words_[word];
      if (list.empty() || list.back().first != d) list.emplace_back(d, 0);
      ++list.back().second;
    }
    lengths_.push_back(static_cast<double>(words.size()));
    total += lengths_.back();
  }
  mean_length_ = documents.empty() ? 0 : total / static_cast<double>(documents.size());
}

std::vector<double> Bm25Index::scores(std::string_view query) const {
  std::vector<double> scores(lengths_.size());
  const auto count = static_cast<double>(lengths_.size());
  for (const std::string& word : words_of(query)) {
    const auto found = words_.find(word);
    if (found == words_.end()) continue;
    const auto n = static_cast<double>(found->second.size());
    const double weight = std::log(1 + (count - n + 0.5) / (n + 0.5));
    for (const auto& [d, often] : found->second) {
      const double norm = kK1 * (1 - kB + kB * lengths_[d] / mean_length_);
      scores[d] += weight * often * (kK1 + 1) / (often + norm);
    }
  }
  return scores;
}

}  // namespace llmtool
