#pragma once
// The merges of byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909), learnt from counted words.

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "text/word_counts.h"

namespace llmtool {

struct BpeVocabulary {
  std::vector<std::string> tokens;                    // by id
  std::array<uint32_t, 256> byte_ids{};               // the token that each byte starts as
  std::vector<std::pair<uint32_t, uint32_t>> merges;  // ids of the two tokens joined, the first learnt first
};

/// Adds merges, and the tokens that they make, to a vocabulary that has the bytes (and what else it likes):
/// the most frequent pair of neighbours in the words, of equally frequent ones the one with the smaller ids,
/// again and again, until there are vocab_size tokens or no pair is left that stands min_frequency times.
///
/// The merges are those that Hugging Face's tokenizers learns. So a run counts with every place, "aaaa" with
/// three of "a a", though it takes two merges; and a merge that spells a token that is there already (a user
/// symbol) gives that one. (The library's counts are of 32 bits and overflow on very large corpora; these do
/// not.)
void learn_merges(const WordCounts& words, size_t vocab_size, int64_t min_frequency,
                  BpeVocabulary& vocabulary);

}  // namespace llmtool
