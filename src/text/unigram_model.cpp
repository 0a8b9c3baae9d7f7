#include "text/unigram_model.h"

#include <algorithm>

#include "llmtool/core/error.h"
#include "text/utf8.h"

namespace llmtool {

UnigramModel::UnigramModel(Vocabulary pieces, std::vector<double> scores, TokenId unknown, bool byte_fallback)
    : pieces_(std::move(pieces)),
      scores_(std::move(scores)),
      unknown_(unknown),
      bytes_(byte_fallback ? BytePieces(pieces_) : BytePieces()),
      trie_(pieces_) {
  double worst = 0;
  for (size_t i = 0; i < scores_.size(); ++i) worst = i == 0 ? scores_[i] : std::min(worst, scores_[i]);
  unknown_score_ = worst - 10;
}

void UnigramModel::add_unknown(std::string_view text, std::vector<TokenId>& ids) const {
  // A run of unknown characters may happen to be a piece.
  if (const TokenId id = pieces_.find(text); id >= 0) return ids.push_back(id);
  if (!bytes_.append(text, ids)) ids.push_back(unknown_);
}

void UnigramModel::encode(std::string_view word, std::vector<TokenId>& ids) const {
  struct Best {
    double score = 0;
    size_t from = SIZE_MAX;  // where the last piece starts; SIZE_MAX: not reached
    TokenId id = -1;
  };
  thread_local std::vector<Best> best;  // of the ways to each byte
  best.assign(word.size() + 1, {});
  std::vector<PrefixTrie::Match> pieces;
  const auto reach = [&](size_t from, size_t to, double score, TokenId id) {
    if (best[to].from == SIZE_MAX || score > best[to].score) best[to] = {score, from, id};
  };
  for (size_t from = 0; from < word.size();) {
    const size_t character = static_cast<size_t>(std::max(1, utf8_length(word.substr(from))));
    bool single = false;
    trie_.find(word.substr(from), pieces);
    for (const auto& [length, id] : pieces) {
      reach(from, from + length, scores_[static_cast<size_t>(id)] + best[from].score, id);
      single = single || length == character;
    }
    if (!single) {
      if (unknown_ < 0)
        throw Error("[tokenizer] a character is not in the vocabulary, which has no unknown token");
      reach(from, from + character, unknown_score_ + best[from].score, unknown_);
    }
    from += character;
  }
  // From the end back to the start; runs of unknown ones are one.
  std::vector<std::pair<size_t, size_t>> spans;
  for (size_t to = word.size(); to > 0;) {
    const size_t from = best[to].from;
    const bool joins = best[to].id == unknown_ && !spans.empty() &&
                       best[spans.back().second].id == unknown_ && spans.back().first == to;
    if (joins) {
      spans.back().first = from;
    } else {
      spans.emplace_back(from, to);
    }
    to = from;
  }
  for (auto span = spans.rbegin(); span != spans.rend(); ++span) {
    const TokenId id = best[span->second].id;
    if (id == unknown_) {
      add_unknown(word.substr(span->first, span->second - span->first), ids);
    } else {
      ids.push_back(id);
    }
  }
  if (best.capacity() > (1 << 16)) std::vector<Best>().swap(best);
}

}  // namespace llmtool
