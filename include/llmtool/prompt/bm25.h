#pragma once
// BM25: which documents are about what a query is about.

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace llmtool {

/// The words of a text: runs of letters, marks, digits and joiners (\w), folded by NFKC and to lower case.
std::vector<std::string> words_of(std::string_view text);

/// Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond", with k1 = 1.2 and
/// b = 0.75. A word in n of N documents weighs ln(1 + (N - n + 0.5) / (n + 0.5)), which is never negative. A
/// word that stands in the query several times counts as often.
class Bm25Index {
 public:
  static constexpr double kK1 = 1.2, kB = 0.75;

  explicit Bm25Index(const std::vector<std::string>& documents);
  /// The score of each document.
  std::vector<double> scores(std::string_view query) const;

 private:
  using Postings = std::vector<std::pair<size_t, double>>;  // document, how often the word stands there
  std::unordered_map<std::string, Postings> words_;
  std::vector<double> lengths_;  // in words
  double mean_length_ = 0;
};

}  // namespace llmtool
