#include "llmtool/prompt/shots.h"

#include <algorithm>

#include "llmtool/core/error.h"
#include "llmtool/core/rng.h"

namespace llmtool {

ShotSelection shot_selection(const std::string& name) {
  if (name == "fixed") return ShotSelection::fixed;
  if (name == "random") return ShotSelection::random;
  if (name == "bm25") return ShotSelection::bm25;
  throw UsageError(cat("shot_selection: expected fixed, random or bm25, found \"", name, "\""));
}

ShotSelector::ShotSelector(std::vector<Shot> shots, int64_t count, ShotSelection selection, uint64_t seed)
    : shots_(std::move(shots)), count_(static_cast<size_t>(count)), selection_(selection), seed_(seed) {
  if (count < 1 || count_ > shots_.size())
    throw UsageError(
        cat("num_shots: expected 1 to ", shots_.size(), ", as many as the examples, found ", count));
  if (selection != ShotSelection::bm25) return;
  std::vector<std::string> prompts;
  for (const Shot& shot : shots_) prompts.push_back(shot.prompt);
  index_ = std::make_unique<const Bm25Index>(prompts);
}

std::vector<const Shot*> ShotSelector::select(const std::string& prompt, int64_t row) const {
  std::vector<size_t> left;
  for (size_t i = 0; i < shots_.size(); ++i) {
    if (shots_[i].prompt != prompt) left.push_back(i);
  }
  const size_t count = std::min(count_, left.size());
  if (selection_ == ShotSelection::random) {
    Rng rng = Rng(seed_).split(static_cast<uint64_t>(row));
    for (size_t i = 0; i < count; ++i) std::swap(left[i], left[i + rng.below(left.size() - i)]);
  } else if (selection_ == ShotSelection::bm25) {
    const std::vector<double> scores = index_->scores(prompt);
    std::stable_sort(left.begin(), left.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
    std::reverse(left.begin(), left.begin() + static_cast<std::ptrdiff_t>(count));
  }
  std::vector<const Shot*> chosen;
  for (size_t i = 0; i < count; ++i) chosen.push_back(&shots_[left[i]]);
  return chosen;
}

}  // namespace llmtool
