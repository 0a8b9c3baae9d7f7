#include "text/bpe_model.h"

#include <algorithm>

#include "llmtool/core/error.h"
#include "text/utf8.h"

namespace llmtool {

namespace {
constexpr size_t kShort = 48;  // symbols; up to here a plain search for the lowest rank is fastest
constexpr uint32_t kNever = UINT32_MAX;

uint64_t key_of(TokenId left, TokenId right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}
uint64_t next_serial() {
  static std::atomic<uint64_t> last = 0;
  return ++last;
}
size_t hash_of(uint64_t key) {
  key *= 0x9E3779B97F4A7C15U;
  return static_cast<size_t>(key ^ key >> 32);
}
}  // namespace

BpeModel::BpeModel(Vocabulary pieces, const std::vector<BpeRule>& rules, BpeOptions options, bool bytes)
    : serial_(next_serial()),
      pieces_(std::move(pieces)),
      options_(std::move(options)),
      bytes_(bytes),
      fallback_(!bytes && options_.byte_fallback ? BytePieces(pieces_) : BytePieces()),
      tiles_(options_.continuing_prefix.empty() && options_.end_suffix.empty()),
      made_(static_cast<size_t>(pieces_.size())),
      in_rules_(static_cast<size_t>(pieces_.size())),
      whole_(new std::atomic<uint8_t>[static_cast<size_t>(pieces_.size())]()) {
  for (int b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    byte_ids_[b] = bytes ? pieces_.find({&byte, 1}) : -1;
  }
  for (const BpeRule& rule : rules) {
    for (const TokenId id : {rule.left, rule.right}) {
      tiles_ = tiles_ && id != options_.unknown && !fallback_.contains(id);
    }
  }
  size_t slots = 16;
  while (slots < 2 * rules.size()) slots *= 2;
  pairs_.assign(slots, {0, 0, -1});
  for (const BpeRule& rule : rules) {
    const uint64_t key = key_of(rule.left, rule.right);
    size_t slot = hash_of(key) & (slots - 1);
    while (pairs_[slot].whole >= 0 && pairs_[slot].key != key) slot = (slot + 1) & (slots - 1);
    pairs_[slot] = {key, rule.rank, rule.whole};
    made_[static_cast<size_t>(rule.whole)] = true;
    in_rules_[static_cast<size_t>(rule.left)] = in_rules_[static_cast<size_t>(rule.right)] = true;
  }
}

const BpeModel::Pair* BpeModel::find(TokenId left, TokenId right) const {
  const uint64_t key = key_of(left, right);
  const size_t mask = pairs_.size() - 1;
  for (size_t slot = hash_of(key) & mask; pairs_[slot].whole >= 0; slot = (slot + 1) & mask) {
    if (pairs_[slot].key == key) return &pairs_[slot];
  }
  return nullptr;
}

void BpeModel::symbols_of(std::string_view word, std::vector<TokenId>& symbols) const {
  bool after_unknown = false;
  const auto unknown = [&] {
    if (options_.unknown >= 0 && !(after_unknown && options_.fuse_unknown))
      symbols.push_back(options_.unknown);
    after_unknown = true;
  };
  if (bytes_) {
    for (const char c : word) {
      const TokenId id = byte_ids_[static_cast<uint8_t>(c)];
      if (id < 0) {
        unknown();
      } else {
        symbols.push_back(id);
        after_unknown = false;
      }
    }
    return;
  }
  const bool decorated = !options_.continuing_prefix.empty() || !options_.end_suffix.empty();
  std::string spelled;
  for (size_t at = 0; at < word.size();) {
    const size_t from = at;
    at += static_cast<size_t>(std::max(1, utf8_length(word.substr(at))));
    std::string_view character = word.substr(from, at - from);
    if (decorated) {
      spelled = from > 0 ? options_.continuing_prefix : "";
      spelled += character;
      if (at >= word.size()) spelled += options_.end_suffix;
      character = spelled;
    }
    if (const TokenId id = pieces_.find(character); id >= 0) {
      symbols.push_back(id);
      after_unknown = false;
    } else if (!fallback_.append(character, symbols)) {
      unknown();
    }
  }
}

/// Rounds of: find the lowest rank, the leftmost of equals, and join that pair.
void BpeModel::merge_short(std::vector<TokenId>& symbols) const {
  uint32_t ranks[kShort];
  TokenId wholes[kShort];
  size_t n = symbols.size();
  const auto look = [&](size_t i) {
    const Pair* const pair = find(symbols[i], symbols[i + 1]);
    ranks[i] = pair ? pair->rank : kNever;
    wholes[i] = pair ? pair->whole : -1;
  };
  for (size_t i = 0; i + 1 < n; ++i) look(i);
  while (n > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < n; ++i) {
      if (ranks[i] < ranks[best]) best = i;
    }
    if (ranks[best] == kNever) break;
    symbols[best] = wholes[best];
    --n;
    for (size_t i = best + 1; i < n; ++i) {
      symbols[i] = symbols[i + 1];
      if (i + 1 < n) {
        ranks[i] = ranks[i + 1];
        wholes[i] = wholes[i + 1];
      }
    }
    if (best > 0) look(best - 1);
    if (best + 1 < n) look(best);
  }
  symbols.resize(n);
}

/// The same by a heap of candidates, for words of any length.
void BpeModel::merge_long(std::vector<TokenId>& symbols) const {
  struct Candidate {
    uint32_t rank, place;
    TokenId left, right, whole;
    bool operator<(const Candidate& other) const {  // the heap's top is the largest
      return rank != other.rank ? rank > other.rank : place > other.place;
    }
  };
  const size_t n = symbols.size();
  if (n >= kNever) throw Error(cat("[tokenizer] a word of ", n, " characters is too long"));
  std::vector<uint32_t> before(n), after(n);
  std::vector<Candidate> heap;
  const auto candidate = [&](uint32_t i, uint32_t j) {
    const Pair* const pair = find(symbols[i], symbols[j]);
    if (pair) heap.push_back({pair->rank, i, symbols[i], symbols[j], pair->whole});
    return pair != nullptr;
  };
  for (uint32_t i = 0; i < n; ++i) {
    before[i] = i - 1;
    after[i] = i + 1;
    if (i + 1 < n) candidate(i, i + 1);
  }
  std::make_heap(heap.begin(), heap.end());
  while (!heap.empty()) {
    const Candidate top = heap.front();
    std::pop_heap(heap.begin(), heap.end());
    heap.pop_back();
    const uint32_t i = top.place, j = after[i];
    if (symbols[i] != top.left || j >= n || symbols[j] != top.right) continue;  // one of them is gone
    symbols[i] = top.whole;
    symbols[j] = -1;
    after[i] = after[j];
    if (after[i] < n) {
      before[after[i]] = i;
      if (candidate(i, after[i])) std::push_heap(heap.begin(), heap.end());
    }
    if (i > 0 && candidate(before[i], i)) std::push_heap(heap.begin(), heap.end());
  }
  std::erase(symbols, -1);
}

void BpeModel::merge(std::vector<TokenId>& symbols) const {
  if (symbols.size() < 2) return;
  if (symbols.size() <= kShort) {
    merge_short(symbols);
  } else {
    merge_long(symbols);
  }
}

bool BpeModel::is_whole(TokenId piece) const {
  std::atomic<uint8_t>& state = whole_[static_cast<size_t>(piece)];
  uint8_t known = state.load(std::memory_order_relaxed);
  if (known == 0) {
    std::vector<TokenId> symbols;
    symbols_of(pieces_.token(piece), symbols);
    merge(symbols);
    known = symbols.size() == 1 && symbols[0] == piece ? 1 : 2;
    state.store(known, std::memory_order_relaxed);
  }
  return known == 1;
}

/// Whether merging `left` and `right` behind one another gives just these two.
bool BpeModel::stay_apart(TokenId left, TokenId right) const {
  // The last answers of this thread, as texts repeat themselves.
  struct Answer {
    uint64_t model = 0;
    uint64_t key = 0;
    bool apart = false;
  };
  thread_local std::vector<Answer> answers(1 << 12);
  const uint64_t key = key_of(left, right);
  Answer& answer = answers[hash_of(key) & (answers.size() - 1)];
  if (answer.model == serial_ && answer.key == key) return answer.apart;
  thread_local std::vector<TokenId> symbols;
  symbols.clear();
  symbols_of(pieces_.token(left), symbols);
  symbols_of(pieces_.token(right), symbols);
  merge(symbols);
  answer = {serial_, key, symbols.size() == 2 && symbols[0] == left && symbols[1] == right};
  return answer.apart;
}

/// The ids of a long text in time that grows with its length alone. Pieces of which each is what merging
/// makes of it, and each two neighbours stay apart, are what merging makes of the whole: the first merge
/// across a boundary would happen for these two alone, too, as until then nothing has reached them. So there
/// is one such sequence, and one for each beginning of the text; a place from which none goes on is never
/// needed again.
bool BpeModel::tile(std::string_view part, std::vector<TokenId>& ids) const {
  std::call_once(trie_made_, [&] {  // Pieces that no rule makes are never found, however long they are.
    trie_ = PrefixTrie(pieces_, [&](TokenId id) {
      return made_[static_cast<size_t>(id)] || in_rules_[static_cast<size_t>(id)];
    });
  });
  std::vector<bool> dead(part.size() + 1);
  std::vector<TokenId> chosen;
  std::vector<PrefixTrie::Match> matches;
  size_t at = 0, limit = SIZE_MAX;  // a piece here is shorter than limit
  while (at < part.size()) {
    trie_.find(part.substr(at), matches);
    TokenId next = -1;
    for (auto m = matches.rbegin(); m != matches.rend() && next < 0; ++m) {
      if (m->length >= limit || dead[at + m->length] || !is_whole(m->id)) continue;
      if (chosen.empty() || stay_apart(chosen.back(), m->id)) next = m->id;
    }
    if (next >= 0) {
      chosen.push_back(next);
      at += pieces_.token(next).size();
      limit = SIZE_MAX;
    } else {
      if (chosen.empty()) return false;
      dead[at] = true;
      limit = pieces_.token(chosen.back()).size();
      at -= limit;
      chosen.pop_back();
    }
  }
  ids.insert(ids.end(), chosen.begin(), chosen.end());
  return true;
}

void BpeModel::encode_long(std::string_view word, std::vector<TokenId>& ids) const {
  const size_t first = ids.size();
  std::vector<TokenId> symbols;
  const auto merged = [&](std::string_view part) {
    if (part.empty() || tile(part, ids)) return;
    symbols.clear();
    symbols_of(part, symbols);
    merge(symbols);
    ids.insert(ids.end(), symbols.begin(), symbols.end());
  };
  // Characters that have no piece, or whose piece takes part in no rule, stand by themselves.
  size_t done = 0;
  for (size_t at = 0; at < word.size();) {
    const size_t from = at;
    at += bytes_ ? 1 : static_cast<size_t>(std::max(1, utf8_length(word.substr(at))));
    const TokenId id =
        bytes_ ? byte_ids_[static_cast<uint8_t>(word[from])] : pieces_.find(word.substr(from, at - from));
    if (id >= 0 && in_rules_[static_cast<size_t>(id)]) continue;
    if (id < 0 && options_.unknown < 0) {
      // What vanishes does not keep its neighbours apart.
      symbols.clear();
      symbols_of(word, symbols);
      merge(symbols);
      ids.resize(first);
      ids.insert(ids.end(), symbols.begin(), symbols.end());
      return;
    }
    merged(word.substr(done, from - done));
    size_t end = at;
    while (id < 0 && end < word.size()) {
      // Unknown ones in a row may be one.
      const size_t next =
          end + (bytes_ ? 1 : static_cast<size_t>(std::max(1, utf8_length(word.substr(end)))));
      const bool known = bytes_ ? byte_ids_[static_cast<uint8_t>(word[end])] >= 0
                                : pieces_.find(word.substr(end, next - end)) >= 0;
      if (known) break;
      end = next;
    }
    symbols_of(word.substr(from, end - from), ids);
    done = at = end;
  }
  merged(word.substr(done));
}

void BpeModel::encode(std::string_view word, std::vector<TokenId>& ids) const {
  const TokenId known = pieces_.find(word);
  if (known >= 0 && (options_.ignore_merges || is_whole(known))) {
    ids.push_back(known);
    return;
  }
  if (tiles_ && word.size() > kShort) return encode_long(word, ids);
  thread_local std::vector<TokenId> symbols;
  symbols.clear();
  symbols_of(word, symbols);
  merge(symbols);
  ids.insert(ids.end(), symbols.begin(), symbols.end());
}

std::vector<BpeRule> rules_of_ranks(const Vocabulary& pieces) {
  std::vector<BpeRule> rules;
  for (TokenId id = 0; id < pieces.size(); ++id) {
    if (!pieces.has(id)) continue;
    const std::string_view token = pieces.token(id);
    for (size_t cut = 1; cut < token.size(); ++cut) {
      const TokenId left = pieces.find(token.substr(0, cut));
      const TokenId right = left < 0 ? -1 : pieces.find(token.substr(cut));
      if (right >= 0) rules.push_back({left, right, id, static_cast<uint32_t>(id)});
    }
  }
  return rules;
}

}  // namespace llmtool
