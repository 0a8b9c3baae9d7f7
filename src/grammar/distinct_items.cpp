#include "grammar/distinct_items.h"

#include <algorithm>
#include <map>
#include <set>

namespace llmtool {

DistinctItems::DistinctItems(std::vector<std::optional<Values>> domains, uint64_t min)
    : domains_(std::move(domains)), min_(min) {
  for (auto& domain : domains_) {
    if (domain) std::sort(domain->begin(), domain->end());
  }
}

const std::optional<DistinctItems::Values>& DistinctItems::domain(uint64_t index) const {
  return domains_[std::min<uint64_t>(index, domains_.size() - 1)];
}

/// One step of the matching of items and values: `index` gets a value, moving others if need be.
bool DistinctItems::assign(uint64_t index, uint64_t from, const Values& used, std::vector<bool>& visited,
                           std::vector<std::pair<std::string, uint64_t>>& taken) const {
  for (const std::string& value : *domain(index)) {
    if (std::binary_search(used.begin(), used.end(), value)) continue;
    const auto owner =
        std::find_if(taken.begin(), taken.end(), [&](const auto& pair) { return pair.first == value; });
    if (owner == taken.end()) {
      taken.emplace_back(value, index);
      return true;
    }
    const uint64_t other = owner->second;
    const auto place = size_t(owner - taken.begin());
    if (visited[other - from]) continue;
    visited[other - from] = true;
    if (!assign(other, from, used, visited, taken)) continue;
    taken[place].second = index;
    return true;
  }
  return false;
}

bool DistinctItems::possible(uint64_t index, const Values& used) const {
  std::vector<std::pair<std::string, uint64_t>> taken;
  uint64_t alike = 0;
  for (uint64_t i = index; i < min_; ++i) {
    if (!domain(i)) {
      if (i + 1 >= domains_.size()) break;  // and so are those behind it
      continue;
    }
    if (++alike > kMaxValues) return false;
    std::vector<bool> visited(size_t(i - index + 1), false);
    visited.back() = true;
    if (!assign(i, index, used, visited, taken)) return false;
  }
  return true;
}

DistinctItems::Values DistinctItems::forbidden(uint64_t index, const Values& used) const {
  std::set<std::string> values(used.begin(), used.end());
  std::set<std::string> asked;
  for (uint64_t i = index + 1; i < min_; ++i) {
    if (const auto& list = domain(i)) asked.insert(list->begin(), list->end());
    if (i + 1 >= domains_.size()) break;
  }
  for (const std::string& value : asked) {
    if (values.contains(value)) continue;
    Values more = used;
    more.insert(std::lower_bound(more.begin(), more.end(), value), value);
    if (!possible(index + 1, more)) values.insert(value);
  }
  return {values.begin(), values.end()};
}

bool DistinctItems::may_have_item(uint64_t index, const Values& forbidden) const {
  const auto& list = domain(index);
  return !list || std::any_of(list->begin(), list->end(), [&](const std::string& value) {
    return !std::binary_search(forbidden.begin(), forbidden.end(), value);
  });
}

}  // namespace llmtool
