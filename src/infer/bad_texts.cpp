#include "llmtool/infer/bad_texts.h"

#include <algorithm>

#include "llmtool/core/error.h"

namespace llmtool {

BadTexts::BadTexts(const Tokenizer& tokenizer, std::vector<std::string> texts) : texts_(std::move(texts)) {
  for (const std::string& text : texts_) {
    if (text.empty()) throw UsageError("bad_words: expected texts, found an empty one");
    longest_ = std::max(longest_, text.size());
  }
  const auto holds = [&](const std::string& added) {
    return std::any_of(texts_.begin(), texts_.end(),
                       [&](const std::string& text) { return added.find(text) != std::string::npos; });
  };
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    special_.push_back(tokenizer.is_special(id));
    added_.push_back(special_.back() ? "" : tokenizer.surface(id, false));
    opened_.push_back(special_.back() ? "" : tokenizer.surface(id, true));
    holding_.push_back(holds(added_.back()));
    opening_.push_back(holds(opened_.back()));
    if (!added_.back().empty()) by_added_.push_back(id);
  }
  std::sort(by_added_.begin(), by_added_.end(), [&](TokenId a, TokenId b) {
    return added_[static_cast<size_t>(a)] < added_[static_cast<size_t>(b)];
  });
}

bool BadTexts::is_text(TokenId id) const {
  const auto i = static_cast<size_t>(id);
  return i >= special_.size() || !special_[i];
}

/// The end of what stands there: as much as a bad text may have begun with.
std::string BadTexts::before(std::span<const TokenId> tokens) const {
  const auto first = std::find_if(tokens.begin(), tokens.end(), [&](TokenId id) { return is_text(id); });
  std::string bytes;
  for (auto at = tokens.end(); at != first && bytes.size() + 1 < longest_;) {
    const auto id = static_cast<size_t>(*--at);
    if (id < added_.size()) bytes.insert(0, at == first ? opened_[id] : added_[id]);
  }
  return bytes;
}

void BadTexts::add_beginning_with(std::string_view bytes, std::vector<bool>& ids) const {
  const auto added = [&](TokenId id) -> std::string_view { return added_[static_cast<size_t>(id)]; };
  auto at = std::lower_bound(by_added_.begin(), by_added_.end(), bytes,
                             [&](TokenId id, std::string_view wanted) { return added(id) < wanted; });
  for (; at != by_added_.end() && added(*at).starts_with(bytes); ++at) ids[static_cast<size_t>(*at)] = true;
}

std::vector<bool> BadTexts::ending(std::span<const TokenId> tokens) const {
  if (std::none_of(tokens.begin(), tokens.end(), [&](TokenId id) { return is_text(id); })) return opening_;
  std::vector<bool> ids = holding_;
  const std::string there = before(tokens);
  for (const std::string_view text : texts_) {
    for (size_t n = std::min(text.size() - 1, there.size()); n > 0; --n) {
      if (there.ends_with(text.substr(0, n))) add_beginning_with(text.substr(n), ids);
    }
  }
  return ids;
}

}  // namespace llmtool
