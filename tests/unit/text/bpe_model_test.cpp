#include "text/bpe_model.h"

#include <gtest/gtest.h>

#include "llmtool/core/error.h"
#include "llmtool/core/rng.h"

namespace llmtool {
namespace {

/// Byte-pair encoding as it is defined, in the plainest way.
std::vector<TokenId> merged(std::vector<TokenId> symbols, const std::vector<BpeRule>& rules) {
  while (true) {
    const BpeRule* best = nullptr;
    size_t place = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      for (const BpeRule& rule : rules) {
        if (rule.left == symbols[i] && rule.right == symbols[i + 1] && (!best || rule.rank < best->rank)) {
          best = &rule;
          place = i;
        }
      }
    }
    if (!best) return symbols;
    symbols[place] = best->whole;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(place) + 1);
  }
}

struct Example {
  Vocabulary pieces;
  std::vector<BpeRule> rules;
};

/// Pieces over a small alphabet and rules for some of their parts; `ordered`: as training gives them, else in
/// any order, which no training would give.
Example random_example(Rng& rng, bool ordered) {
  Example e;
  const std::string alphabet = "abc";
  for (const char c : alphabet) e.pieces.add({&c, 1}, e.pieces.size(), "test");
  for (int i = 0; i < 40; ++i) {
    const auto pick = [&] { return static_cast<TokenId>(rng.below(static_cast<uint64_t>(e.pieces.size()))); };
    const TokenId left = pick(), right = pick();
    const std::string whole = e.pieces.token(left) + e.pieces.token(right);
    if (whole.size() > 9) continue;
    if (e.pieces.find(whole) < 0) e.pieces.add(whole, e.pieces.size(), "test");
    const auto rank = ordered ? static_cast<uint32_t>(i)
                              : static_cast<uint32_t>(rng.below(1000) * 64 + static_cast<uint64_t>(i));
    bool there = false;
    for (const BpeRule& rule : e.rules) there = there || (rule.left == left && rule.right == right);
    if (!there) e.rules.push_back({left, right, e.pieces.find(whole), rank});
  }
  return e;
}

TEST(BpeModel, LongAndShortWordsAreMergedAsDefined) {
  for (const bool ordered : {true, false}) {
    for (uint64_t seed = 1; seed <= 60; ++seed) {
      Rng rng(seed);
      const Example e = random_example(rng, ordered);
      const BpeModel model(e.pieces, e.rules, {}, true);
      for (const size_t length : {1u, 2u, 5u, 30u, 49u, 120u, 300u}) {
        std::string word;
        std::vector<TokenId> symbols;
        while (word.size() < length) {
          const auto letter = static_cast<TokenId>(rng.below(3));
          const size_t run = rng.below(4) == 0 ? 7 : 1;
          for (size_t i = 0; i < run; ++i) {
            word += static_cast<char>('a' + letter);
            symbols.push_back(letter);
          }
        }
        std::vector<TokenId> found;
        model.encode(word, found);
        ASSERT_EQ(found, merged(symbols, e.rules))
            << (ordered ? "ordered" : "any order") << " " << seed << " " << word;
      }
    }
  }
}

TEST(BpeModel, UnknownCharactersStandApartOrFuse) {
  Vocabulary pieces;
  for (const char* piece : {"<unk>", "a", "b", "ab"}) pieces.add(piece, pieces.size(), "test");
  const std::vector<BpeRule> rules = {{1, 2, 3, 0}};
  const std::string longer = std::string(60, 'a') + "öö" + std::string(60, 'b');
  for (const bool fuse : {false, true}) {
    const BpeModel model(pieces, rules, {.unknown = 0, .fuse_unknown = fuse}, false);
    std::vector<TokenId> ids, many;
    model.encode("abxyab", ids);
    EXPECT_EQ(ids, fuse ? (std::vector<TokenId>{3, 0, 3}) : (std::vector<TokenId>{3, 0, 0, 3}));
    model.encode(longer, many);
    EXPECT_EQ(many.size(), fuse ? 121u : 122u);
  }
}

TEST(BpeModel, UnknownCharactersThatVanishKeepNothingApart) {
  Vocabulary pieces;
  for (const char* piece : {"a", "b", "ab"}) pieces.add(piece, pieces.size(), "test");
  const BpeModel model(pieces, {{0, 1, 2, 0}}, {}, false);
  std::string word;
  for (int i = 0; i < 40; ++i) word += "aéb";
  std::vector<TokenId> ids;
  model.encode(word, ids);
  EXPECT_EQ(ids, std::vector<TokenId>(40, 2));
}

TEST(BpeModel, RanksJoinBytesAsTiktokenDoes) {
  Vocabulary pieces;
  for (const char* piece : {"a", "b", "aa", "aaa", "ab"}) pieces.add(piece, pieces.size(), "test");
  const BpeModel model(pieces, rules_of_ranks(pieces), {.ignore_merges = true}, true);
  std::vector<TokenId> ids;
  model.encode("aaaab", ids);
  EXPECT_EQ(ids, (std::vector<TokenId>{2, 2, 1}));
}

}  // namespace
}  // namespace llmtool
