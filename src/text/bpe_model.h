#pragma once
// Byte-pair encoding (Sennrich et al. 2016): the pair of neighbours with the lowest rank is joined, again and
// again.

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "text/prefix_trie.h"
#include "text/subword_model.h"

namespace llmtool {

struct BpeOptions {
  TokenId unknown = -1;  // for characters that have no piece; -1: they give nothing
  bool fuse_unknown = false;
  bool byte_fallback = false;  // such characters become pieces "<0xE2>", where all of them exist
  bool ignore_merges = false;  // a word that is a piece is that piece
  std::string continuing_prefix = {}, end_suffix = {};
};

/// (left, right) joined give whole; lower ranks first.
struct BpeRule {
  TokenId left, right, whole;
  uint32_t rank;
};

class BpeModel : public SubwordModel {
 public:
  /// `pieces` are the tokens as words contain them: characters where `bytes` is false, else bytes. Of two
  /// rules for one pair the later counts.
  BpeModel(Vocabulary pieces, const std::vector<BpeRule>& rules, BpeOptions options, bool bytes);
  void encode(std::string_view word, std::vector<TokenId>& ids) const override;

 private:
  struct Pair {
    uint64_t key;  // left << 32 | right
    uint32_t rank;
    TokenId whole;
  };
  const Pair* find(TokenId left, TokenId right) const;
  void symbols_of(std::string_view word, std::vector<TokenId>& symbols) const;
  void merge(std::vector<TokenId>& symbols) const;
  void merge_short(std::vector<TokenId>& symbols) const;
  void merge_long(std::vector<TokenId>& symbols) const;
  bool is_whole(TokenId piece) const;
  bool stay_apart(TokenId left, TokenId right) const;
  bool tile(std::string_view part, std::vector<TokenId>& ids) const;
  void encode_long(std::string_view word, std::vector<TokenId>& ids) const;

  uint64_t serial_;  // no other model of this process has it
  Vocabulary pieces_;
  BpeOptions options_;
  bool bytes_;
  BytePieces fallback_;         // none without byte_fallback
  TokenId byte_ids_[256];       // of single bytes, where bytes_; -1: none
  std::vector<Pair> pairs_;     // a hash table; whole -1: empty
  bool tiles_;                  // long words can be tiled
  std::vector<bool> made_;      // whether a rule makes a piece
  std::vector<bool> in_rules_;  // whether a piece takes part in a rule
  /// Whether merging gives a piece itself: 0 not known yet, 1 yes, 2 no.
  mutable std::unique_ptr<std::atomic<uint8_t>[]> whole_;
  mutable std::once_flag trie_made_;
  mutable PrefixTrie trie_;
};

/// Rules that give the pieces in the order of their ids, as tiktoken joins bytes.
std::vector<BpeRule> rules_of_ranks(const Vocabulary& pieces);

}  // namespace llmtool
