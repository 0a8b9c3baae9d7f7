#include "grammar/dead_ends.h"

#include <unordered_set>

namespace llmtool {

namespace {
/// A state behind which more than these are found counts as alive. It is enough: what leaves a form without a
/// spelling is a corner such as the rest of a listed word or number, and strings find their end at once.
constexpr size_t kMaxStates = 400;
constexpr size_t kMaxStatesOfMask = 4000;
}  // namespace

void DeadEnds::begin_mask() {
  known_.clear();
  left_ = kMaxStatesOfMask;
}

bool DeadEnds::dead(const Matcher& matcher) {
  if (left_ == 0 || matcher.complete()) return false;
  key_.clear();
  matcher.append_key(key_, Matcher::kAnyReach);
  const auto found = known_.find(key_);
  return found != known_.end() ? found->second : search(matcher, key_);
}

/// Goes from state to state, depth first, each time by the first token that leads to a new one.
bool DeadEnds::search(const Matcher& matcher, std::string key) {
  struct Place {
    std::unique_ptr<Matcher> matcher;
    std::string key;
    size_t next = 0;  // node of the trie
  };
  std::vector<Place> path;
  std::unordered_set<std::string> seen = {key};
  path.push_back({matcher.clone(), std::move(key)});
  bool ends = false;
  while (!path.empty() && !ends && seen.size() <= kMaxStates && left_ > 0) {
    --left_;
    Place& here = path.back();
    Place next;
    here.next = walk_.run(*here.matcher, trie_, here.next, [&](size_t, const Matcher& behind) {
      ends = behind.complete();
      if (ends) return false;
      key_.clear();
      behind.append_key(key_, Matcher::kAnyReach);
      const auto found = known_.find(key_);
      ends = found != known_.end() && !found->second;
      if (ends) return false;
      if (found != known_.end() || !seen.insert(key_).second) return true;
      next = {behind.clone(), key_};
      return false;
    });
    if (next.matcher) {
      path.push_back(std::move(next));
    } else if (!ends) {
      path.pop_back();
    }
  }
  if (path.empty()) {
    for (const std::string& state : seen) known_[state] = true;
    return true;
  }
  if (!ends) path.resize(1);  // of the others it is not known
  for (Place& place : path) known_[std::move(place.key)] = false;
  return false;
}

}  // namespace llmtool
