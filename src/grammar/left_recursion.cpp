// Left recursion is taken out as Paull does it: rules that begin with each other are put in an order, and the
// beginnings that go against it are replaced by what they stand for.

#include <algorithm>
#include <map>

#include "grammar/rule_automaton.h"

namespace llmtool {

namespace {
class Remover {
 public:
  Remover(RuleAutomaton& automaton, const std::string& origin) : a_(automaton), origin_(origin) {}

  void run() {
    find_groups();
    for (const std::vector<uint32_t>& group : groups_) {
      for (size_t i = 0; i < group.size(); ++i) {
        for (size_t j = 0; j < i; ++j) unfold(group[i], group[j]);
        remove_direct(group[i]);
      }
    }
  }

 private:
  RuleAutomaton::State& start(uint32_t rule) { return a_.states[a_.starts[rule]]; }

  /// Tarjan's strongly connected components of "begins with", without recursion.
  void find_groups() {
    const size_t n = a_.starts.size();
    std::vector<uint32_t> index(n, 0), low(n, 0), path, component;
    std::vector<size_t> next(n, 0);
    std::vector<bool> inside(n, false);
    uint32_t count = 0;
    for (uint32_t root = 0; root < n; ++root) {
      if (index[root] != 0) continue;
      const auto enter = [&](uint32_t r) {
        index[r] = low[r] = ++count;
        path.push_back(r);
        component.push_back(r);
        inside[r] = true;
      };
      enter(root);
      while (!path.empty()) {
        const uint32_t r = path.back();
        if (next[r] < start(r).calls.size()) {
          const uint32_t to = start(r).calls[next[r]++].rule;
          if (index[to] == 0) {
            enter(to);
          } else if (inside[to]) {
            low[r] = std::min(low[r], index[to]);
          }
          continue;
        }
        path.pop_back();
        if (!path.empty()) low[path.back()] = std::min(low[path.back()], low[r]);
        if (low[r] == index[r]) take_group(r, component, inside);
      }
    }
  }
  void take_group(uint32_t first, std::vector<uint32_t>& component, std::vector<bool>& inside) {
    // From behind, where it is near: a long chain of rules is one component of each of them.
    const auto from = std::find(component.rbegin(), component.rend(), first).base() - 1;
    std::vector<uint32_t> group(from, component.end());
    component.erase(from, component.end());
    for (const uint32_t r : group) inside[r] = false;
    std::sort(group.begin(), group.end());
    groups_.push_back(std::move(group));
  }

  std::vector<uint32_t> states_of(uint32_t rule) const {
    std::vector<uint32_t> list = {a_.starts[rule]};
    std::map<uint32_t, bool> seen = {{list[0], true}};
    const auto go = [&](uint32_t to) {
      if (seen.try_emplace(to, true).second) list.push_back(to);
    };
    for (size_t i = 0; i < list.size(); ++i) {
      const auto& state = a_.states[list[i]];
      for (const auto& step : state.steps) go(step.to);
      for (const auto& call : state.calls) go(call.to);
    }
    return list;
  }

  void add_moves(RuleAutomaton::State& state, const RuleAutomaton::State& more) {
    state.steps.insert(state.steps.end(), more.steps.begin(), more.steps.end());
    state.calls.insert(state.calls.end(), more.calls.begin(), more.calls.end());
    std::sort(state.calls.begin(), state.calls.end());
    state.calls.erase(std::unique(state.calls.begin(), state.calls.end()), state.calls.end());
    size_ += more.steps.size() + more.calls.size() + 1;
    if (size_ > RuleAutomaton::kMaxSize) refuse_size(origin_);
  }

  /// Where `rule` begins with `other`, it begins with what that begins with.
  void unfold(uint32_t rule, uint32_t other) {
    std::vector<RuleAutomaton::Call> kept, unfolded;
    for (const auto& call : start(rule).calls) (call.rule == other ? unfolded : kept).push_back(call);
    start(rule).calls = kept;
    for (const auto& call : unfolded) {
      const std::vector<uint32_t> originals = states_of(other);
      std::map<uint32_t, uint32_t> copy_of;
      for (const uint32_t s : originals)
        copy_of.emplace(s, static_cast<uint32_t>(a_.states.size() + copy_of.size()));
      const RuleAutomaton::State behind = a_.states[call.to];
      for (const uint32_t s : originals) {
        RuleAutomaton::State copy = a_.states[s];
        for (auto& step : copy.steps) step.to = copy_of.at(step.to);
        for (auto& inner : copy.calls) inner.to = copy_of.at(inner.to);
        size_ += copy.steps.size() + copy.calls.size();
        if (copy.accepting) {
          copy.accepting = behind.accepting;
          add_moves(copy, behind);
        }
        a_.states.push_back(std::move(copy));
      }
      add_moves(start(rule), a_.states[copy_of.at(a_.starts[other])]);
    }
  }

  /// A ::= A x | y is y x*: where A may end, x may follow.
  void remove_direct(uint32_t rule) {
    auto& calls = start(rule).calls;
    RuleAutomaton::State following;
    for (const auto& call : calls) {
      if (call.rule == rule) add_moves(following, a_.states[call.to]);
    }
    if (following.steps.empty() && following.calls.empty()) {
      std::erase_if(calls, [&](const auto& call) { return call.rule == rule; });  // A ::= A
      return;
    }
    const std::vector<uint32_t> own = states_of(rule);
    std::erase_if(calls, [&](const auto& call) { return call.rule == rule; });
    for (const uint32_t s : own) {
      if (a_.states[s].accepting) add_moves(a_.states[s], following);
    }
  }

  RuleAutomaton& a_;
  const std::string& origin_;
  std::vector<std::vector<uint32_t>> groups_;
  size_t size_ = 0;
};
}  // namespace

void remove_left_recursion(RuleAutomaton& automaton, const std::string& origin) {
  Remover(automaton, origin).run();
}

}  // namespace llmtool
