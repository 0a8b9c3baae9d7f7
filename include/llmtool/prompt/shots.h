#pragma once
// ShotSelector: which examples stand in front of a prompt.

#include <memory>
#include <string>
#include <vector>

#include "llmtool/prompt/bm25.h"

namespace llmtool {

struct Shot {
  std::string prompt, answer;
};

enum class ShotSelection { fixed, random, bm25 };
ShotSelection shot_selection(const std::string& name);  // throws UsageError

class ShotSelector {
 public:
  /// Throws UsageError where `count` is not from 1 to the number of shots.
  ShotSelector(std::vector<Shot> shots, int64_t count, ShotSelection selection, uint64_t seed);

  /// The examples in front of `prompt`, which is number `row`, in their order: the first ones; some by seed
  /// and row; or the nearest by BM25, the nearest last (of equal ones the earlier is nearer). An example
  /// whose prompt is `prompt` itself is never among them, so that no row is shown its own answer.
  std::vector<const Shot*> select(const std::string& prompt, int64_t row) const;

 private:
  std::vector<Shot> shots_;
  size_t count_;
  ShotSelection selection_;
  uint64_t seed_;
  std::unique_ptr<const Bm25Index> index_;
};

}  // namespace llmtool
