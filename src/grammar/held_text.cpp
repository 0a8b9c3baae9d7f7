#include "llmtool/grammar/held_text.h"

#include <algorithm>
#include <limits>

#include "llmtool/core/error.h"

namespace llmtool {

namespace {
constexpr size_t kTail = 40;  // bytes of the text that errors show
constexpr float kNever = -std::numeric_limits<float>::infinity();
}  // namespace

bool accepts(const Grammar& grammar, std::string_view text) {
  const auto matcher = grammar.matcher();
  return std::all_of(text.begin(), text.end(),
                     [&](char c) { return matcher->push(static_cast<uint8_t>(c)); }) &&
         matcher->complete();
}

HeldText::HeldText(const Grammar& grammar, TokenMasks& masks, bool at_start)
    : masks_(masks), matcher_(grammar.matcher()), at_start_(at_start) {
  find_mask();
}

HeldText::HeldText(const HeldText& other)
    : masks_(other.masks_),
      matcher_(other.matcher_->clone()),
      mask_(other.mask_),
      tail_(other.tail_),
      at_start_(other.at_start_) {}

void HeldText::find_mask() {
  mask_ = masks_.allowed(*matcher_, at_start_);
  if (mask_->continuations == 0 && !matcher_->complete()) {
    throw Error(cat("the tokenizer has no token that goes on with the form behind \"", tail_,
                    "\": expected a form that its vocabulary can spell"));
  }
}

std::span<const float> HeldText::masked(std::span<const float> logits) {
  masked_.assign(logits.size(), kNever);
  for (size_t word = 0; word < mask_->bits.size(); ++word) {
    const size_t from = word * 64, to = std::min(from + 64, logits.size());
    const uint64_t bits = mask_->bits[word];
    if (bits == 0) continue;
    for (size_t i = from; i < to; ++i) {
      if ((bits >> (i - from) & 1) != 0) masked_[i] = logits[i];
    }
  }
  return masked_;
}

TokenId HeldText::settled(TokenId id, std::span<const float> logits) const {
  if (mask_->allows(id)) return id;
  TokenId best = -1;
  for (size_t i = 0; i < logits.size(); ++i) {
    const auto other = static_cast<TokenId>(i);
    if (mask_->allows(other) && (best < 0 || logits[i] > logits[static_cast<size_t>(best)])) best = other;
  }
  return best;
}

void HeldText::push(TokenId id) {
  const std::string_view text = masks_.text(id, at_start_);
  at_start_ = false;
  for (const char c : text) {
    if (!matcher_->push(static_cast<uint8_t>(c))) {
      throw Error(cat("[grammar] token ", id, " does not go on with the form behind \"", tail_, "\""));
    }
  }
  tail_ += text;
  if (tail_.size() > kTail) tail_.erase(0, tail_.size() - kTail);
  find_mask();
}

}  // namespace llmtool
