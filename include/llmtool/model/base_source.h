#pragma once
// A model's files as the base of fine-tuning: with another head, or with room for more tokens.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "llmtool/model/model_source.h"

namespace llmtool {

struct BaseChanges {
  bool untie = false;  // the head becomes a copy of the embedding
  /// A classification head for these labels: that of the files where it is for them, else drawn by `seed`, as
  /// is the pooler in front of BERT's.
  std::optional<std::vector<std::string>> labels = {};
  int64_t vocab_size = 0;  // 0: as it is; rows beyond the files' are new
  /// Rows [first, end) of the vocabulary that the files may hold but no token has had: they are new, too, and
  /// the new ones are the mean of those in front of all of them. end 0: there are none.
  struct {
    int64_t first = 0, end = 0;
  } spare = {};
  std::vector<int64_t> stop_ids = {};  // besides those that end an answer already
  uint64_t seed = 0;
};

/// The same model with these changes; itself where there are none. Throws UsageError on a smaller vocabulary.
std::shared_ptr<const ModelSource> change_base(std::shared_ptr<const ModelSource> base,
                                               const BaseChanges& changes);
/// Whether the files of such a source have p's values, or most rows of them; what they lack is drawn.
bool holds_values(const ModelSource& source, const Param& p);

}  // namespace llmtool
