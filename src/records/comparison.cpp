#include "llmtool/records/comparison.h"

#include <algorithm>
#include <unordered_map>

namespace llmtool {

namespace {
struct Answer {
  int64_t id = 0;
  std::optional<Verdict> verdict;
};
using Answers = std::unordered_map<std::string, Answer>;

std::string key_of(const Record& r) {
  return (r.input.is_null() ? nlohmann::json(r.prompt) : nlohmann::json(r.input)).dump();
}

Answers answers_of(const RecordStore& store, const RecordFilter& filter, int64_t& repeated) {
  Answers answers;
  store.for_each(filter, [&](Record&& r) {
    const auto [at, is_new] = answers.try_emplace(key_of(r), Answer{r.id, r.verdict});
    if (is_new) return;
    ++repeated;
    if (r.verdict || !at->second.verdict) at->second = {r.id, r.verdict};
  });
  return answers;
}
}  // namespace

Comparison compare(const RecordStore& store, const RecordFilter& first, const RecordFilter& second) {
  Comparison c;
  const Answers a = answers_of(store, first, c.repeated), b = answers_of(store, second, c.repeated);
  for (const auto& [input, mine] : a) {
    const auto at = b.find(input);
    if (at == b.end()) {
      ++c.unpaired_first;
      continue;
    }
    const Answer& other = at->second;
    if (!mine.verdict || !other.verdict) {
      ++c.unjudged;
      continue;
    }
    const bool right = mine.verdict == Verdict::right, other_right = other.verdict == Verdict::right;
    ++(right ? other_right ? c.both : c.only_first : other_right ? c.only_second : c.neither);
    if (right != other_right) c.differing.push_back({input, mine.id, other.id, right});
  }
  c.unpaired_second = static_cast<int64_t>(b.size()) - (c.compared() + c.unjudged);
  std::sort(c.differing.begin(), c.differing.end(),
            [](const DifferingRow& x, const DifferingRow& y) { return x.first < y.first; });
  return c;
}

}  // namespace llmtool
