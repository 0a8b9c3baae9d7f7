#include "grammar/rule_builder.h"

#include <algorithm>

#include "llmtool/core/error.h"

namespace llmtool {

namespace {
using Kind = Expression::Kind;
constexpr uint32_t kStart = 0, kEnd = 1;

/// A part so small that copies of it are better than calls of it.
bool is_small(const Expression& e) {
  if (e.kind == Kind::characters) {
    const auto& ranges = e.set.ranges();
    return ranges.size() <= 4 && (ranges.empty() || ranges.back().second < 0x80);
  }
  return e.kind == Kind::sequence && e.parts.size() <= 4 &&
         std::all_of(e.parts.begin(), e.parts.end(),
                     [](const Expression& p) { return p.kind == Kind::characters && is_small(p); });
}

bool has_anchor(const Expression& e) {
  return e.kind == Kind::begin || e.kind == Kind::end ||
         std::any_of(e.parts.begin(), e.parts.end(), has_anchor);
}
}  // namespace

RuleBuilder::RuleBuilder(const std::vector<NamedRule>& rules, const std::string& origin) : origin_(origin) {
  for (const NamedRule& rule : rules) rules_.push_back(&rule.expression);
  find_nullable(rules);
}

void RuleBuilder::find_nullable(const std::vector<NamedRule>& rules) {
  nullable_.assign(rules.size(), false);
  bool changed = true;
  for (bool forwards = false; changed; forwards = !forwards) {  // chains run either way
    changed = false;
    for (size_t i = 0; i < rules.size(); ++i) {
      const size_t r = forwards ? i : rules.size() - 1 - i;
      if (nullable_[r] || !nullable(rules[r].expression)) continue;
      nullable_[r] = changed = true;
    }
  }
}

bool RuleBuilder::nullable(const Expression& e) const {
  const auto part = [&](const Expression& p) { return nullable(p); };
  switch (e.kind) {
    case Kind::characters:
      return false;
    case Kind::sequence:
      return std::all_of(e.parts.begin(), e.parts.end(), part);
    case Kind::choice:
      return std::any_of(e.parts.begin(), e.parts.end(), part);
    case Kind::repeat:
      return e.least == 0 || part(e.parts[0]);
    case Kind::rule:
      return nullable_[e.rule];
    default:
      return true;
  }
}

uint32_t RuleBuilder::add_raw() {
  if (++size_ > RuleAutomaton::kMaxSize) refuse_size(origin_);
  raw_.emplace_back();
  return static_cast<uint32_t>(raw_.size() - 1);
}

void RuleBuilder::add(const Expression& e, uint32_t from, uint32_t to) {
  switch (e.kind) {
    case Kind::characters:
      return add_characters(e.set, from, to);
    case Kind::sequence: {
      for (size_t i = 0; i + 1 < e.parts.size(); ++i) {
        const uint32_t next = add_raw();
        add(e.parts[i], from, next);
        from = next;
      }
      if (e.parts.empty()) return raw_[from].empty.push_back(to);
      return add(e.parts.back(), from, to);
    }
    case Kind::choice:
      for (const Expression& part : e.parts) add(part, from, to);
      return;
    case Kind::repeat:
      return add_repeat(e, from, to);
    case Kind::rule:
      raw_[from].calls.push_back({e.rule, to});
      if (nullable_[e.rule]) raw_[from].empty.push_back(to);
      return;
    case Kind::begin:
      return raw_[from].at_begin.push_back(to);
    case Kind::end:
      return raw_[from].at_end.push_back(to);
  }
}

void RuleBuilder::add_characters(const CodePoints& set, uint32_t from, uint32_t to) {
  for (const CodePoints::Spelling& s : set.spellings()) {
    uint32_t next = to;
    for (uint32_t i = s.length; i-- > 1;) {
      const auto [low, high] = s.bytes[i];
      const auto [found, is_new] = tails_.try_emplace({next, low, high}, 0);
      if (is_new) {
        found->second = add_raw();
        raw_[found->second].steps.push_back({low, high, next});
      }
      next = found->second;
    }
    raw_[from].steps.push_back({s.bytes[0].first, s.bytes[0].second, next});
  }
}

void RuleBuilder::add_repeat(const Expression& e, uint32_t from, uint32_t to) {
  const Expression& part = e.parts[0];
  const bool unbounded = e.most == Expression::kUnbounded;
  const int64_t copies = unbounded ? std::max<int64_t>(1, e.least) : e.most;
  const bool shared = copies > 1 && !is_small(part) && !has_anchor(part);
  // Its calls read something, so the copies that may be empty are those that may be left out.
  const int64_t least = shared && nullable(part) ? 0 : e.least;
  const auto own_rule = static_cast<uint32_t>(rules_.size());
  if (shared) rules_.push_back(&part);
  const auto once = [&](uint32_t a, uint32_t b) {
    if (!shared) return add(part, a, b);
    raw_[a].calls.push_back({own_rule, b});
  };
  const int64_t chained = unbounded ? std::max<int64_t>(0, least - 1) : e.most;
  uint32_t at = add_raw();
  raw_[from].empty.push_back(at);
  for (int64_t i = 0; i < chained; ++i) {
    if (!unbounded && i >= least) raw_[at].empty.push_back(to);
    const uint32_t next = add_raw();
    once(at, next);
    at = next;
  }
  if (unbounded) {
    if (least == 0) raw_[at].empty.push_back(to);
    const uint32_t again = add_raw();
    once(at, again);
    raw_[again].empty.push_back(at);
    at = again;
  }
  raw_[at].empty.push_back(to);
}

/// Gives `state` the moves and the end of all that empty moves lead to.
void RuleBuilder::close(uint32_t from, bool begins, RuleAutomaton::State& state) {
  // Where the text has ended nothing can be read, but empty moves go on: a second round, for the end alone.
  for (const bool ended : {false, true}) {
    ++closings_;
    std::vector<uint32_t> work = {from};
    seen_[from] = closings_;
    const auto go = [&](const std::vector<uint32_t>& targets) {
      for (const uint32_t to : targets) {
        if (std::exchange(seen_[to], closings_) != closings_) work.push_back(to);
      }
    };
    bool anchored = false;
    while (!work.empty()) {
      const uint32_t at = work.back();
      work.pop_back();
      const Raw& raw = raw_[at];
      state.accepting = state.accepting || at == kEnd;
      go(raw.empty);
      if (begins) go(raw.at_begin);
      if (ended) go(raw.at_end);
      anchored = anchored || !raw.at_end.empty();
      if (ended) continue;
      state.steps.insert(state.steps.end(), raw.steps.begin(), raw.steps.end());
      state.calls.insert(state.calls.end(), raw.calls.begin(), raw.calls.end());
    }
    if (!anchored) break;
  }
  std::sort(state.steps.begin(), state.steps.end());
  state.steps.erase(std::unique(state.steps.begin(), state.steps.end()), state.steps.end());
  std::sort(state.calls.begin(), state.calls.end());
  state.calls.erase(std::unique(state.calls.begin(), state.calls.end()), state.calls.end());
  size_ += state.steps.size() + state.calls.size();
  if (size_ > RuleAutomaton::kMaxSize) refuse_size(origin_);
}

/// Appends the states of the rule at work without empty moves, its start first.
void RuleBuilder::finish_rule(bool root) {
  seen_.assign(raw_.size(), closings_);
  std::vector<uint32_t> number(raw_.size(), RuleAutomaton::kNever), order;
  const auto first = static_cast<uint32_t>(out_.states.size());
  out_.starts.push_back(first);
  RuleAutomaton::State state;
  close(kStart, root, state);
  if (root) out_.empty_text = state.accepting;
  state.accepting = false;
  const auto renumber = [&](uint32_t& to) {
    if (number[to] == RuleAutomaton::kNever) {
      order.push_back(to);
      number[to] = first + static_cast<uint32_t>(order.size());
    }
    to = number[to];
  };
  for (size_t i = 0;; ++i) {
    for (auto& step : state.steps) renumber(step.to);
    for (auto& call : state.calls) renumber(call.to);
    out_.states.push_back(std::move(state));
    if (i == order.size()) break;
    state = {};
    close(order[i], false, state);
  }
}

RuleAutomaton RuleBuilder::build() {
  for (size_t r = 0; r < rules_.size(); ++r) {  // grows under way
    raw_.clear();
    tails_.clear();
    add_raw();
    add_raw();
    add(*rules_[r], kStart, kEnd);
    finish_rule(r == 0);
  }
  return std::move(out_);
}

}  // namespace llmtool
