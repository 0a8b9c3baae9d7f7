#pragma once
// SubwordModel: what cuts a word into pieces of the vocabulary.

#include <string_view>
#include <vector>

#include "text/vocabulary.h"

namespace llmtool {

/// Immutable; may be used from several threads at once.
class SubwordModel {
 public:
  virtual ~SubwordModel() = default;
  /// Appends the ids of `word`, which is well-formed UTF-8 (bytes, where the model was made for bytes) and
  /// not empty.
  virtual void encode(std::string_view word, std::vector<TokenId>& ids) const = 0;
};

}  // namespace llmtool
