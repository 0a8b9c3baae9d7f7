#include "grammar/object_shape.h"

#include <algorithm>
#include <bit>

#include "llmtool/core/error.h"

namespace llmtool {
namespace {

constexpr size_t kMaxSome = 4;
constexpr uint64_t kMaxListedKeys = 256;

bool test(const ObjectShape::Bits& bits, size_t i) { return bits[i / 64] >> (i % 64) & 1; }
void set(ObjectShape::Bits& bits, size_t i) { bits[i / 64] |= uint64_t{1} << (i % 64); }
void clear(ObjectShape::Bits& bits, size_t i) { bits[i / 64] &= ~(uint64_t{1} << (i % 64)); }

bool any_between(const ObjectShape::Bits& bits, size_t first, size_t last) {
  for (size_t i = first; i < last;) {
    const uint64_t word = bits[i / 64] >> (i % 64);
    const size_t width = std::min(last - i, 64 - i % 64);
    if (width == 64 ? word != 0 : (word & ((uint64_t{1} << width) - 1)) != 0) return true;
    i += width;
  }
  return false;
}

uint64_t count_missing(const ObjectShape::Bits& wanted, const ObjectShape::Bits& seen) {
  uint64_t count = 0;
  for (size_t i = 0; i < wanted.size(); ++i) count += uint64_t(std::popcount(wanted[i] & ~seen[i]));
  return count;
}

void append_number(std::string& text, uint64_t value) {
  for (int i = 0; i < 8; ++i) text.push_back(char(value >> (8 * i)));
}

}  // namespace

ObjectShape::ObjectShape(const ObjectPart& part, SchemaFormulas& formulas, const StringLanguages& languages,
                         const std::function<uint32_t(SchemaFormulas::Id)>& node)
    : min_(part.min), max_(part.max), some_(uint32_t(part.some.size())) {
  if (some_ > kMaxSome)
    throw UsageError("more than four conditions of the kind \"some property ...\" on one object");
  collect_names(part, languages);
  make_tree();
  required_.assign((names_.size() + 63) / 64, 0);
  for (size_t i = 0; i < names_.size(); ++i) {
    if (std::binary_search(part.required.begin(), part.required.end(), names_[i])) set(required_, i);
  }
  make_children(part, formulas, languages, node);
}

/// Keys of which a schema speaks one by one, and those of languages with few members, which then count as
/// such.
void ObjectShape::collect_names(const ObjectPart& part, const StringLanguages& languages) {
  names_ = part.required;
  std::vector<const ByteDfa*> dfas;
  for (const auto* list : {&part.each, &part.some}) {
    for (const PropertyPart& property : *list) {
      names_.insert(names_.end(), property.keys.names.begin(), property.keys.names.end());
      for (const uint32_t language : property.keys.languages) {
        if (std::find(languages_.begin(), languages_.end(), language) != languages_.end()) continue;
        languages_.push_back(language);
        dfas.push_back(&languages.dfa(language));
      }
    }
  }
  labels_ = KeyLabels(dfas);
  for (uint32_t label = 0; label < labels_.num_labels(); ++label) {
    if (labels_.count(labels_.start(), label) > kMaxListedKeys) continue;
    const std::vector<std::string> keys = labels_.keys(label);
    names_.insert(names_.end(), keys.begin(), keys.end());
  }
  std::sort(names_.begin(), names_.end());
  names_.erase(std::unique(names_.begin(), names_.end()), names_.end());
  named_in_label_.assign(labels_.num_labels(), 0);
  for (const std::string& name : names_) ++named_in_label_[labels_.label(name)];
}

void ObjectShape::make_tree() {
  tree_.emplace_back();
  tree_[0].last = uint32_t(names_.size());
  for (size_t i = 0; i < names_.size(); ++i) {
    uint32_t at = 0;
    for (const char c : names_[i]) {
      auto& next = tree_[at].next;
      if (next.empty() || next.back().first != uint8_t(c)) {
        next.emplace_back(uint8_t(c), uint32_t(tree_.size()));
        tree_.emplace_back().first = uint32_t(i);
      }
      at = tree_[at].next.back().second;
      tree_[at].last = uint32_t(i + 1);
    }
    tree_[at].name = int32_t(i);
  }
}

void ObjectShape::make_children(const ObjectPart& part, SchemaFormulas& formulas,
                                const StringLanguages& languages,
                                const std::function<uint32_t(SchemaFormulas::Id)>& node) {
  const auto contains = [&](const KeySet& keys, size_t key) {
    if (key < names_.size()) return keys.contains(names_[key], languages);
    bool in = false;
    for (const uint32_t language : keys.languages) {
      const auto place = std::find(languages_.begin(), languages_.end(), language);
      in |= labels_.in(uint32_t(key - names_.size()), size_t(place - languages_.begin()));
    }
    return in != keys.others;
  };
  // Many keys share their formulas.
  for (size_t key = 0; key < names_.size() + labels_.num_labels(); ++key) {
    std::vector<SchemaFormulas::Id> base;
    for (const PropertyPart& each : part.each) {
      if (contains(each.keys, key)) base.push_back(each.value);
    }
    std::vector<uint32_t>& children = children_.emplace_back(size_t{1} << some_, uint32_t{kNoNode});
    const bool listed = key >= names_.size() &&
                        labels_.count(labels_.start(), uint32_t(key - names_.size())) <= kMaxListedKeys;
    for (size_t serves = 0; serves < children.size() && !listed; ++serves) {
      std::vector<SchemaFormulas::Id> all = base;
      bool possible = true;
      for (size_t i = 0; i < some_; ++i) {
        if (!(serves >> i & 1)) continue;
        possible &= contains(part.some[i].keys, key);
        all.push_back(part.some[i].value);
      }
      if (!possible) continue;
      const SchemaFormulas::Id formula = formulas.all(std::move(all));
      if (formula != SchemaFormulas::kNothing) children[serves] = node(formula);
    }
  }
}

bool ObjectShape::update(const std::vector<bool>& satisfiable) {
  usable_.assign(children_.size(), 0);
  uint64_t available = 0;
  for (size_t key = 0; key < children_.size(); ++key) {
    for (size_t serves = 0; serves < children_[key].size(); ++serves) {
      const uint32_t child = children_[key][serves];
      if (child != kNoNode && satisfiable[child]) usable_[key] |= 1u << serves;
    }
    if (!(usable_[key] & 1)) continue;
    uint64_t keys = 1;
    if (key >= names_.size()) {
      const auto label = uint32_t(key - names_.size());
      keys = labels_.count(labels_.start(), label);
      if (keys != KeyLabels::kEndless) keys -= named_in_label_[label];
    }
    available = keys > kNoLimit - available ? kNoLimit : available + keys;
  }
  for (size_t i = 0; i < names_.size(); ++i) {
    if (test(required_, i) && !usable_[i]) return false;
  }
  const uint64_t least = needed(Bits(required_.size(), 0), (1u << some_) - 1);
  return least != kNoLimit && least <= max_ && min_ <= max_ && min_ <= available;
}

bool ObjectShape::always_open() const {
  if (max_ != kNoLimit) return false;
  for (size_t key = names_.size(); key < children_.size(); ++key) {
    const auto label = uint32_t(key - names_.size());
    if ((usable_[key] & 1) && (labels_.endless(labels_.start()) >> label & 1)) return true;
  }
  return false;
}

ObjectShape::State ObjectShape::start() const {
  State state;
  state.seen.assign(required_.size(), 0);
  state.wanted = (1u << some_) - 1;
  settle(state);
  return state;
}

uint64_t ObjectShape::needed(const Bits& seen, uint32_t wanted) const {
  Bits scratch = seen;
  const uint64_t serving = needed_to_serve(scratch, wanted);
  return serving == kNoLimit ? kNoLimit : serving + count_missing(required_, seen);
}

/// Beyond the required names, which come anyway and may serve too.
uint64_t ObjectShape::needed_to_serve(Bits& seen, uint32_t wanted) const {
  if (wanted == 0) return 0;
  const uint32_t first = wanted & (~wanted + 1);
  uint64_t best = kNoLimit;
  std::vector<size_t> tried(size_t{1} << some_, 0);
  for (size_t key = 0; key < usable_.size(); ++key) {
    const bool name = key < names_.size();
    if (name && test(seen, key)) continue;
    const uint64_t cost = name && test(required_, key) ? 0 : 1;
    for (uint32_t serves = wanted; serves > 0; serves = (serves - 1) & wanted) {
      if (!(serves & first) || !(usable_[key] >> serves & 1)) continue;
      // As many names as are wanted are enough to choose from.
      if (cost == 1 && tried[serves]++ > some_) continue;
      if (name) set(seen, key);
      const uint64_t rest = needed_to_serve(seen, wanted & ~serves);
      if (name) clear(seen, key);
      if (rest != kNoLimit) best = std::min(best, rest + cost);
    }
  }
  return best;
}

bool ObjectShape::may_take(const State& state, size_t key, uint32_t serves) const {
  if (!(usable_[key] >> serves & 1)) return false;
  if (state.wanted == 0) {
    const bool asked = key < names_.size() && test(required_, key);
    return max_ == kNoLimit || state.count + count_missing(required_, state.seen) + !asked <= max_;
  }
  Bits seen = state.seen;
  if (key < names_.size()) set(seen, key);
  const uint64_t rest = needed(seen, state.wanted & ~serves);
  return rest != kNoLimit && rest <= max_ && state.count + 1 <= max_ - rest;
}

bool ObjectShape::may_take_any(const State& state, size_t key) const {
  for (uint32_t serves = state.wanted;; serves = (serves - 1) & state.wanted) {
    if (may_take(state, key, serves)) return true;
    if (serves == 0) return false;
  }
}

void ObjectShape::settle(State& state) const {
  state.open.assign(required_.size(), 0);
  state.open_labels = 0;
  bool any = false;
  for (size_t key = 0; key < usable_.size(); ++key) {
    const bool name = key < names_.size();
    if ((name && test(state.seen, key)) || !may_take_any(state, key)) continue;
    if (name) set(state.open, key);
    if (!name) state.open_labels |= uint64_t{1} << (key - names_.size());
  }
  for (const uint64_t word : state.open) any |= word != 0;
  for (uint64_t left = state.open_labels; left && !any; left &= left - 1) {
    any = keys_left(state, first(), "", uint32_t(std::countr_zero(left))) > 0;
  }
  state.may_go_on = any;
  state.may_close = state.wanted == 0 && state.count >= min_ && count_missing(required_, state.seen) == 0;
}

/// How many keys of a label, no names and not yet used, go on from there.
uint64_t ObjectShape::keys_left(const State& state, const Cursor& cursor, std::string_view key,
                                uint32_t label) const {
  uint64_t left = labels_.count(cursor.labels, label);
  if (left == KeyLabels::kEndless || left == 0) return left;
  if (cursor.branch >= 0) {
    const Branch& branch = tree_[size_t(cursor.branch)];
    for (uint32_t i = branch.first; i < branch.last; ++i) left -= labels_.label(names_[i]) == label;
  }
  for (const std::string& other : state.others) {
    left -= other.starts_with(key) && labels_.label(other) == label;
  }
  return left;
}

bool ObjectShape::viable(const State& state, const Cursor& cursor, std::string_view key) const {
  if (cursor.branch >= 0) {
    const Branch& branch = tree_[size_t(cursor.branch)];
    if (any_between(state.open, branch.first, branch.last)) return true;
  }
  if (labels_.endless(cursor.labels) & state.open_labels) return true;
  for (uint64_t left = labels_.reachable(cursor.labels) & state.open_labels; left; left &= left - 1) {
    if (keys_left(state, cursor, key, uint32_t(std::countr_zero(left))) > 0) return true;
  }
  return false;
}

bool ObjectShape::step(const State& state, Cursor& cursor, uint8_t byte, std::string_view key) const {
  if (cursor.branch >= 0) {
    const auto& next = tree_[size_t(cursor.branch)].next;
    const auto place = std::lower_bound(next.begin(), next.end(), byte,
                                        [](const auto& entry, uint8_t b) { return entry.first < b; });
    cursor.branch = place != next.end() && place->first == byte ? int32_t(place->second) : -1;
  }
  cursor.labels = labels_.next(cursor.labels, byte);
  return viable(state, cursor, key);
}

/// The number of the key that ends there; -1 if it may not.
int64_t ObjectShape::key_at(const State& state, const Cursor& cursor, std::string_view key) const {
  const int32_t name = cursor.branch >= 0 ? tree_[size_t(cursor.branch)].name : -1;
  if (name >= 0) return test(state.open, size_t(name)) ? name : -1;
  const uint32_t label = labels_.label(cursor.labels);
  if (label == KeyLabels::kNoLabel || !(state.open_labels >> label & 1)) return -1;
  const bool used = std::binary_search(state.others.begin(), state.others.end(), key);
  return used ? -1 : int64_t(names_.size() + label);
}

void ObjectShape::choices(const State& state, const Cursor& cursor, std::string_view key,
                          std::vector<Choice>& out) const {
  const int64_t number = key_at(state, cursor, key);
  if (number < 0) return;
  for (uint32_t serves = state.wanted;; serves = (serves - 1) & state.wanted) {
    if (may_take(state, size_t(number), serves)) out.push_back({children_[size_t(number)][serves], serves});
    if (serves == 0) return;
  }
}

ObjectShape::State ObjectShape::state_after(const State& state, const Cursor& cursor, std::string_view key,
                                            const Choice& choice) const {
  const int64_t number = key_at(state, cursor, key);
  State after = state;
  ++after.count;
  after.wanted &= ~choice.serves;
  if (number < int64_t(names_.size())) {
    set(after.seen, size_t(number));
  } else {
    after.others.insert(std::lower_bound(after.others.begin(), after.others.end(), key), std::string(key));
  }
  settle(after);
  return after;
}

void ObjectShape::append_key(std::string& text, const State& state, int64_t reach) const {
  const auto far = uint64_t(reach);
  for (const uint64_t word : state.seen) append_number(text, word);
  if (some_ > 0) append_number(text, state.wanted);
  if (min_ > 0) append_number(text, std::min(far, state.count < min_ ? min_ - state.count : 0));
  if (max_ != kNoLimit) {
    // Beyond what is needed anyway, a property takes some bytes.
    const uint64_t missing = count_missing(required_, state.seen) + some_;
    append_number(text, std::min(far + missing, max_ - state.count));
  }
  uint64_t sum = 0;  // the same in any order
  for (const std::string& key : state.others) {
    if (key.size() <= far) sum += std::hash<std::string>{}(key) | 1;
  }
  append_number(text, sum);
}

}  // namespace llmtool
