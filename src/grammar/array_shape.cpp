#include "grammar/array_shape.h"

#include <algorithm>

#include "llmtool/core/error.h"

namespace llmtool {
namespace {

constexpr size_t kMaxContains = 4;
constexpr size_t kMaxTable = 1 << 20;

void append_number(std::string& text, uint64_t value) {
  for (int i = 0; i < 8; ++i) text.push_back(char(value >> (8 * i)));
}

/// Counting stops where more makes no difference.
uint64_t highest(const ContainsPart& part) { return part.max != kNoLimit ? part.max : part.min; }

}  // namespace

ArrayShape::ArrayShape(const ArrayPart& part, SchemaFormulas& formulas,
                       const std::function<uint32_t(SchemaFormulas::Id)>& node)
    : min_(part.min), max_(part.max), unique_(part.unique), contains_(part.contains) {
  if (contains_.size() > kMaxContains)
    throw UsageError("more than four conditions of the kind \"contains\" on one array");
  uint64_t positions = part.prefix.size();
  for (const ContainsPart& one : contains_) {
    positions = std::max({positions, one.from, one.to == kNoLimit ? 0 : one.to});
  }
  for (uint64_t i = 0; i <= positions; ++i) {
    std::vector<Choice>& choices = choices_.emplace_back();
    for (uint32_t serves = 0; serves < (1u << contains_.size()); ++serves) {
      std::vector<SchemaFormulas::Id> all = {part.at(i)};
      bool possible = true;
      for (size_t c = 0; c < contains_.size(); ++c) {
        const ContainsPart& one = contains_[c];
        const bool here = i >= one.from && i < one.to;
        if (serves >> c & 1) {
          possible &= here;
          all.push_back(one.value);
        } else if (here && one.max != kNoLimit) {  // where there may not be more, none goes uncounted
          all.push_back(formulas.negation(one.value));
        }
      }
      const SchemaFormulas::Id formula =
          possible ? formulas.all(std::move(all)) : SchemaFormulas::Id{SchemaFormulas::kNothing};
      if (formula != SchemaFormulas::kNothing) choices.push_back({node(formula), serves, false});
    }
  }
}

bool ArrayShape::update(const std::vector<bool>& satisfiable) {
  end_ = kNoLimit;
  for (size_t i = choices_.size(); i-- > 0;) {
    bool any = false;
    for (Choice& choice : choices_[i]) any |= choice.usable = satisfiable[choice.node];
    if (!any) end_ = i;
  }
  settled_ = std::max<uint64_t>(choices_.size() - 1, min_);
  if (!contains_.empty()) tabulate();
  const uint64_t least = needed(start());
  return least != kNoLimit && least <= std::min(max_, end_);
}

void ArrayShape::tabulate() {
  num_counts_ = 1;
  for (const ContainsPart& one : contains_) {
    if (highest(one) >= kMaxTable / num_counts_)
      throw UsageError("its counts of items need too large a table");
    num_counts_ *= highest(one) + 1;
  }
  if (settled_ >= kMaxTable / num_counts_) throw UsageError("its counts of items need too large a table");
  table_.assign((settled_ + 1) * num_counts_, kNoLimit);
  for (uint64_t index = settled_ + 1; index-- > 0;) {
    for (size_t n = num_counts_; n-- > 0;) {
      std::vector<uint64_t> counts;
      size_t rest = n;
      for (const ContainsPart& one : contains_) {
        counts.push_back(rest % (highest(one) + 1));
        rest /= highest(one) + 1;
      }
      table_[index * num_counts_ + n] = fewest(index, counts);
    }
  }
}

/// From what is known of later indices and of higher counts.
uint64_t ArrayShape::fewest(uint64_t index, const std::vector<uint64_t>& counts) const {
  if (index >= min_ && counted(counts)) return 0;
  const State state{index, counts};
  uint64_t best = kNoLimit;
  for (const Choice& choice : choices_[position(state)]) {
    if (!choice.usable) continue;
    bool fits = true;
    for (size_t c = 0; c < contains_.size(); ++c) {
      fits &= !(choice.serves >> c & 1) || contains_[c].max == kNoLimit || counts[c] < contains_[c].max;
    }
    if (!fits) continue;
    const State after = state_after(state, choice);
    if (after == state) continue;
    const uint64_t rest = table_[std::min(after.index, settled_) * num_counts_ + number(after.counts)];
    if (rest != kNoLimit) best = std::min(best, rest + 1);
  }
  return best;
}

size_t ArrayShape::number(const std::vector<uint64_t>& counts) const {
  size_t n = 0;
  for (size_t c = counts.size(); c-- > 0;) n = n * (highest(contains_[c]) + 1) + counts[c];
  return n;
}

bool ArrayShape::counted(const std::vector<uint64_t>& counts) const {
  for (size_t c = 0; c < counts.size(); ++c) {
    if (counts[c] < contains_[c].min) return false;
  }
  return true;
}

uint64_t ArrayShape::needed(const State& state) const {
  if (!contains_.empty()) return table_[std::min(state.index, settled_) * num_counts_ + number(state.counts)];
  const uint64_t missing = state.index < min_ ? min_ - state.index : 0;
  return state.index + missing <= end_ ? missing : kNoLimit;
}

bool ArrayShape::always_open() const { return max_ == kNoLimit && end_ == kNoLimit; }

bool ArrayShape::may_close(const State& state) const { return state.index >= min_ && counted(state.counts); }

const std::vector<ArrayShape::Choice>& ArrayShape::choices(const State& state) const {
  return choices_[position(state)];
}

bool ArrayShape::allowed(const State& state, const Choice& choice) const {
  if (state.index >= max_ || !choice.usable) return false;
  bool serves_more = choice.serves == 0;
  for (size_t c = 0; c < contains_.size(); ++c) {
    if (!(choice.serves >> c & 1)) continue;
    if (contains_[c].max != kNoLimit && state.counts[c] >= contains_[c].max) return false;
    serves_more |= contains_[c].max != kNoLimit || state.counts[c] < contains_[c].min;
  }
  if (!serves_more) return false;  // the choice without it allows more
  const uint64_t rest = needed(state_after(state, choice));
  return rest != kNoLimit && rest <= max_ - state.index - 1;
}

bool ArrayShape::may_go_on(const State& state) const {
  const auto& list = choices(state);
  return std::any_of(list.begin(), list.end(), [&](const Choice& choice) { return allowed(state, choice); });
}

ArrayShape::State ArrayShape::state_after(const State& state, const Choice& choice) const {
  State after = state;
  if (max_ != kNoLimit || state.index < settled_) ++after.index;
  if (!table_.empty() && max_ == kNoLimit) after.index = std::min(after.index, settled_);
  for (size_t c = 0; c < contains_.size(); ++c) {
    if (choice.serves >> c & 1) after.counts[c] = std::min(after.counts[c] + 1, highest(contains_[c]));
  }
  return after;
}

void ArrayShape::append_key(std::string& text, const State& state, int64_t reach) const {
  const auto far = uint64_t(reach);
  append_number(text, position(state));
  for (const uint64_t count : state.counts) append_number(text, count);
  const uint64_t missing = state.index < min_ ? min_ - state.index : 0;
  const bool exact = !contains_.empty();
  if (min_ > 0) append_number(text, exact ? missing : std::min(missing, far));
  if (max_ != kNoLimit)
    append_number(text, exact ? max_ - state.index : std::min(max_ - state.index, far + missing));
}

}  // namespace llmtool
