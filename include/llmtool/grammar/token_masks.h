#pragma once
// TokenMasks: which tokens of a vocabulary go on with a text that is held to a form.

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "llmtool/grammar/matcher.h"
#include "llmtool/text/tokenizer.h"

namespace llmtool {

class DeadEnds;
class TrieWalk;
struct TokenTrie;

/// A bit for each id.
struct TokenMask {
  std::vector<uint64_t> bits;
  int64_t count = 0;          // of ids that may come, those that end an answer among them
  int64_t continuations = 0;  // of those that go on with the text
  TokenId only = -1;          // the one that may come, where it is just one
  bool allows(TokenId id) const { return (bits[static_cast<size_t>(id) / 64] >> (id % 64) & 1) != 0; }
};

/// The vocabulary as a trie of its tokens' bytes, walked with a matcher, and the masks that came of it, the
/// latest `max_bytes` of them. For the matchers of one Grammar; from one thread at a time.
class TokenMasks {
 public:
  /// For logits of `vocab_size` ids. Ids beyond the tokenizer's, special tokens and tokens without text may
  /// never come; `end_ids` may exactly where the text is complete, and never as text.
  TokenMasks(const Tokenizer& tokenizer, int64_t vocab_size, std::vector<TokenId> end_ids,
             size_t max_bytes = size_t{64} << 20);
  ~TokenMasks();

  /// Of what may follow what `matcher` has read, without the tokens behind which it is proven that the
  /// vocabulary cannot spell an end. `at_start`: no text stands before, so that tokenizers leave out what
  /// they leave out there.
  std::shared_ptr<const TokenMask> allowed(const Matcher& matcher, bool at_start = false);
  /// The text that `id` adds.
  std::string_view text(TokenId id, bool at_start = false) const;
  int64_t hits() const { return hits_; }
  int64_t misses() const { return misses_; }

 private:
  using Entry = std::pair<std::string, std::shared_ptr<const TokenMask>>;

  const TokenTrie& trie(bool at_start) const;
  std::shared_ptr<const TokenMask> make(const Matcher& matcher, const TokenTrie& trie);

  std::shared_ptr<const TokenTrie> anywhere_, at_start_;  // the same where no token differs
  std::vector<TokenId> end_ids_;
  int64_t vocab_size_;
  size_t max_masks_;
  std::list<Entry> masks_;  // the latest used first
  std::unordered_map<std::string_view, std::list<Entry>::iterator> by_key_;
  std::unique_ptr<TrieWalk> walk_;
  std::unique_ptr<DeadEnds> dead_ends_;  // none where the vocabulary spells every byte
  std::string key_;
  int64_t hits_ = 0, misses_ = 0;
};

}  // namespace llmtool
