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
/// The merges are those that Hugging Face's tokenizers learns, so its way of counting is kept where it is not
/// the plain one. Only the neighbours of a merged pair are counted down, never the pair itself: of "aaaa" a
/// count of 2 for "a a" stays behind when it has become "aa aa". A token that is spelt like one before is
/// that one, and pairs with it can come up again for the words where they are new, as merges that are listed
/// where they were last learnt. (Its counts are of 32 bits and overflow on very large corpora; these do not.)
void learn_merges(const WordCounts& words, size_t vocab_size, int64_t min_frequency,
                  BpeVocabulary& vocabulary);

}  // namespace llmtool
