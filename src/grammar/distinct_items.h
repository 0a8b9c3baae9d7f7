#pragma once
// DistinctItems: what `uniqueItems` leaves of the values of the items to come.

#include <optional>
#include <string>
#include <vector>

#include "llmtool/core/error.h"

namespace llmtool {

class DistinctItems {
 public:
  using Values = std::vector<std::string>;  // canonical texts, sorted
  static constexpr size_t kMaxValues = 4096;

  DistinctItems() = default;
  /// By position (the last stands for all behind it): the values an item can have, nullopt where they are too
  /// many to matter. `min` items are asked for.
  DistinctItems(std::vector<std::optional<Values>> domains, uint64_t min);

  /// Whether the items from `index` to the last that is asked for can differ from each other and from `used`.
  bool possible(uint64_t index, const Values& used) const;
  /// `used`, and the values without which the items behind `index` could not do.
  Values forbidden(uint64_t index, const Values& used) const;
  /// Whether the item at `index` can have a value that is none of `forbidden`.
  bool may_have_item(uint64_t index, const Values& forbidden) const;

 private:
  const std::optional<Values>& domain(uint64_t index) const;
  bool assign(uint64_t index, uint64_t from, const Values& used, std::vector<bool>& visited,
              std::vector<std::pair<std::string, uint64_t>>& taken) const;

  std::vector<std::optional<Values>> domains_;
  uint64_t min_ = 0;
};

}  // namespace llmtool
