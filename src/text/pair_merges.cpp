#include "text/pair_merges.h"

#include <algorithm>
#include <unordered_map>

namespace llmtool {

namespace {
uint64_t key_of(uint32_t left, uint32_t right) { return uint64_t{left} << 32 | right; }

/// What is known of each pair of tokens: a hash table with linear probing, at most half full.
class Pairs {
 public:
  struct Pair {
    uint64_t key = kFree;
    int64_t count = 0;
    uint32_t found = 0;  // 1 + the place in the merger's list of pairs found in this round
  };
  Pairs() : slots_(1 << 12) {}

  Pair& operator[](uint64_t key) {
    Pair* pair = find(key);
    if (pair->key == kFree) {
      if (2 * ++size_ > slots_.size()) {
        grow();
        pair = find(key);
      }
      pair->key = key;
    }
    return *pair;
  }

 private:
  static constexpr uint64_t kFree = ~uint64_t{0};

  Pair* find(uint64_t key) {
    const size_t mask = slots_.size() - 1;
    size_t slot = (key * 0x9E3779B97F4A7C15) >> 20 & mask;
    while (slots_[slot].key != key && slots_[slot].key != kFree) slot = (slot + 1) & mask;
    return &slots_[slot];
  }
  void grow() {
    std::vector<Pair> old(2 * slots_.size());
    old.swap(slots_);
    for (const Pair& pair : old) {
      if (pair.key != kFree) *find(pair.key) = pair;
    }
  }

  std::vector<Pair> slots_;
  size_t size_ = 0;
};

class Merger {
 public:
  Merger(const WordCounts& words, BpeVocabulary& vocabulary) : vocabulary_(vocabulary) {
    for (uint32_t id = 0; id < vocabulary.tokens.size(); ++id) ids_.emplace(vocabulary.tokens[id], id);
    words_.reserve(words.size());
    for (size_t i = 0; i < words.size(); ++i) {
      const std::string_view text = words.word(i);
      if (text.size() < 2) continue;
      const auto w = static_cast<uint32_t>(words_.size());
      words_.push_back({symbols_.size(), text.size(), words.count(i)});
      for (const char c : text) symbols_.push_back(vocabulary.byte_ids[static_cast<uint8_t>(c)]);
      for (size_t at = words_[w].begin; at + 1 < symbols_.size(); ++at)
        add(symbols_[at], symbols_[at + 1], w);
    }
    queue_found();
  }

  void learn(size_t vocab_size, int64_t min_frequency) {
    while (ids_.size() < vocab_size && !queue_.empty()) {
      Candidate best = pop();
      const int64_t count = pairs_[best.key].count;
      if (best.count != count) {  // counted down since
        best.count = count;
        push(std::move(best));
        continue;
      }
      if (count < std::max<int64_t>(1, min_frequency)) break;
      const auto left = static_cast<uint32_t>(best.key >> 32), right = static_cast<uint32_t>(best.key);
      const uint32_t whole = token(vocabulary_.tokens[left] + vocabulary_.tokens[right]);
      vocabulary_.merges.emplace_back(left, right);
      for (const uint32_t w : best.words) merge(w, left, right, whole);
      queue_found();
    }
  }

 private:
  struct Word {
    size_t begin, length;  // in symbols_
    int64_t count;
  };
  /// A pair with the words that have it. One round finds them all, the one that makes the later of its two
  /// tokens, as what a stretch of text is merged to, before a merge reaches across its ends, depends on it
  /// alone.
  struct Candidate {
    int64_t count;
    uint64_t key;
    std::vector<uint32_t> words;
    bool operator<(const Candidate& other) const {
      return count != other.count ? count < other.count : key > other.key;
    }
  };

  uint32_t token(const std::string& text) {
    const auto [place, is_new] = ids_.emplace(text, static_cast<uint32_t>(vocabulary_.tokens.size()));
    if (is_new) vocabulary_.tokens.push_back(text);
    return place->second;
  }

  void add(uint32_t left, uint32_t right, uint32_t w) {
    const uint64_t key = key_of(left, right);
    Pairs::Pair& pair = pairs_[key];
    pair.count += words_[w].count;
    if (pair.found == 0) {
      found_.push_back({0, key, {}});
      pair.found = static_cast<uint32_t>(found_.size());
    }
    std::vector<uint32_t>& words = found_[pair.found - 1].words;
    if (words.empty() || words.back() != w) words.push_back(w);
  }
  void take_away(uint32_t left, uint32_t right, uint32_t w) {
    pairs_[key_of(left, right)].count -= words_[w].count;
  }

  /// Joins the pair in a word, left to right.
  void merge(uint32_t w, uint32_t left, uint32_t right, uint32_t whole) {
    uint32_t* const s = &symbols_[words_[w].begin];
    const size_t length = words_[w].length;
    size_t to = 0;
    for (size_t from = 0; from < length; ++from) {
      if (s[from] != left || from + 1 == length || s[from + 1] != right) {
        s[to++] = s[from];
        continue;
      }
      if (to > 0) {
        take_away(s[to - 1], left, w);
        add(s[to - 1], whole, w);
      }
      if (from + 2 < length) {
        take_away(right, s[from + 2], w);
        add(whole, s[from + 2], w);
      }
      s[to++] = whole;
      ++from;
    }
    words_[w].length = to;
  }

  void queue_found() {
    for (Candidate& candidate : found_) {
      Pairs::Pair& pair = pairs_[candidate.key];
      pair.found = 0;
      candidate.count = pair.count;
      if (pair.count > 0) push(std::move(candidate));
    }
    found_.clear();
  }
  void push(Candidate&& candidate) {
    queue_.push_back(std::move(candidate));
    std::push_heap(queue_.begin(), queue_.end());
  }
  Candidate pop() {
    std::pop_heap(queue_.begin(), queue_.end());
    Candidate best = std::move(queue_.back());
    queue_.pop_back();
    return best;
  }

  BpeVocabulary& vocabulary_;
  std::unordered_map<std::string, uint32_t> ids_;
  std::vector<uint32_t> symbols_;
  std::vector<Word> words_;
  Pairs pairs_;
  std::vector<Candidate> found_, queue_;  // queue_ is a heap
};
}  // namespace

void learn_merges(const WordCounts& words, size_t vocab_size, int64_t min_frequency,
                  BpeVocabulary& vocabulary) {
  Merger(words, vocabulary).learn(vocab_size, min_frequency);
}

}  // namespace llmtool
