#pragma once
// HeldText: one answer, held to a form token by token.

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "llmtool/grammar/token_masks.h"

namespace llmtool {

/// Whether `text` as a whole is of the form.
bool accepts(const Grammar& grammar, std::string_view text);

class HeldText {
 public:
  /// `masks` are of the grammar's matchers and outlive this. `at_start`: the prompt has no text. Throws Error
  /// where no token can begin.
  HeldText(const Grammar& grammar, TokenMasks& masks, bool at_start);
  /// A text of its own that has read the same.
  HeldText(const HeldText& other);

  /// The logits (V) with all that may not come at minus infinity; valid until the next call.
  std::span<const float> masked(std::span<const float> logits);
  /// `id`, or the likeliest that may come where rounding let a token be chosen that may not.
  TokenId settled(TokenId id, std::span<const float> logits) const;
  const TokenMask& mask() const { return *mask_; }
  /// Goes on by a token that may come. Throws Error where no token can follow and the text is not complete:
  /// the vocabulary cannot spell the form.
  void push(TokenId id);
  /// The text is complete and nothing can follow.
  bool ended() const { return matcher_->complete() && mask_->continuations == 0; }
  bool complete() const { return matcher_->complete(); }

 private:
  void find_mask();

  TokenMasks& masks_;
  std::unique_ptr<Matcher> matcher_;
  std::shared_ptr<const TokenMask> mask_;
  std::vector<float> masked_;
  std::string tail_;  // of the text, for errors
  bool at_start_;
};

}  // namespace llmtool
