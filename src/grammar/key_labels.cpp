#include "grammar/key_labels.h"

#include <algorithm>
#include <map>

#include "llmtool/core/error.h"

namespace llmtool {

KeyLabels::KeyLabels(const std::vector<const ByteDfa*>& languages) : trivial_(languages.empty()) {
  if (trivial_) {
    members_.emplace_back();
    return;
  }
  build(languages);
  endless_.assign(labels_.size(), 0);
  reachable_.assign(labels_.size(), 0);
  for (uint32_t label = 0; label < members_.size(); ++label) count_label(label);
}

void KeyLabels::build(const std::vector<const ByteDfa*>& languages) {
  const ByteDfa any = ByteDfa::any();
  std::map<std::vector<State>, State> numbers;
  std::map<std::vector<bool>, uint32_t> labels;
  std::vector<std::vector<State>> states;
  const auto number = [&](const std::vector<State>& state) {
    if (state[0] == ByteDfa::kDead) return State{0};
    const auto [place, fresh] = numbers.try_emplace(state, State(states.size()));
    if (!fresh) return place->second;
    states.push_back(state);
    if (states.size() > ByteDfa::kMaxStates)
      throw Error("the patterns of keys together need too many states");
    return place->second;
  };
  states.push_back({});  // dead
  std::vector<State> first = {any.start()};
  for (const ByteDfa* language : languages) first.push_back(language->start());
  start_ = number(first);
  for (size_t s = 0; s < states.size(); ++s) {
    table_.resize((s + 1) * 256, 0);
    labels_.push_back(kNoLabel);
    if (s == 0) continue;
    const std::vector<State> from = states[s];
    for (int byte = 0; byte < 256; ++byte) {
      std::vector<State> to = {any.next(from[0], uint8_t(byte))};
      for (size_t i = 0; i < languages.size(); ++i)
        to.push_back(languages[i]->next(from[i + 1], uint8_t(byte)));
      table_[s * 256 + size_t(byte)] = number(to);
    }
    if (!any.accepts(from[0])) continue;
    std::vector<bool> in;
    for (size_t i = 0; i < languages.size(); ++i) in.push_back(languages[i]->accepts(from[i + 1]));
    const auto [place, fresh] = labels.try_emplace(in, uint32_t(members_.size()));
    if (fresh) members_.push_back(in);
    labels_[s] = place->second;
    if (members_.size() > kMaxLabels) throw Error("the patterns of keys overlap in too many ways");
  }
}

void KeyLabels::count_label(uint32_t label) {
  const size_t states = labels_.size();
  std::vector<std::vector<State>> into(states);
  for (State s = 1; s < states; ++s) {
    for (int byte = 0; byte < 256; ++byte) into[table_[size_t(s) * 256 + size_t(byte)]].push_back(s);
  }
  std::vector<State> reached;
  std::vector<bool> reaches(states, false);
  for (State s = 1; s < states; ++s) {
    if (labels_[s] == label) reached.push_back(s);
    if (labels_[s] == label) reaches[s] = true;
  }
  for (size_t i = 0; i < reached.size(); ++i) {
    for (const State from : into[reached[i]]) {
      if (!reaches[from]) reached.push_back(from);
      reaches[from] = true;
    }
  }
  // States from which no loop is reached are counted from their ends on; the others are endless.
  std::vector<size_t> left(states, 0);
  std::vector<State> ready;
  auto& counts = counts_.emplace_back(states, 0);
  for (const State s : reached) {
    for (int byte = 0; byte < 256; ++byte) left[s] += reaches[table_[size_t(s) * 256 + size_t(byte)]];
    if (left[s] == 0) ready.push_back(s);
    counts[s] = labels_[s] == label;
    reachable_[s] |= uint64_t{1} << label;
  }
  std::vector<bool> done(states, false);
  for (size_t i = 0; i < ready.size(); ++i) {
    done[ready[i]] = true;
    for (const State from : into[ready[i]]) {
      counts[from] = counts[from] > (kEndless >> 1) ? counts[from] : counts[from] + counts[ready[i]];
      if (reaches[from] && --left[from] == 0) ready.push_back(from);
    }
  }
  for (const State s : reached) {
    if (done[s]) continue;
    counts[s] = kEndless;
    endless_[s] |= uint64_t{1} << label;
  }
}

uint32_t KeyLabels::label(std::string_view key) const {
  State state = start_;
  for (const char c : key) state = next(state, uint8_t(c));
  return label(state);
}

uint64_t KeyLabels::count(State state, uint32_t label) const {
  return trivial_ ? kEndless : counts_[label][state];
}

std::vector<std::string> KeyLabels::keys(uint32_t label) const {
  std::vector<std::string> result;
  std::vector<std::pair<State, std::string>> open = {{start_, ""}};
  while (!open.empty()) {
    const auto [state, text] = open.back();
    open.pop_back();
    if (labels_[state] == label) result.push_back(text);
    for (int byte = 0; byte < 256; ++byte) {
      const State to = table_[size_t(state) * 256 + size_t(byte)];
      if (counts_[label][to] > 0) open.emplace_back(to, text + char(byte));
    }
  }
  return result;
}

}  // namespace llmtool
