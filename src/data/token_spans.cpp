#include "data/token_spans.h"

#include <algorithm>

#include "text/common_prefix.h"

namespace llmtool {

namespace {
bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

/// Finds the tokens in the text one by one, by what they are spelled like.
class Aligner {
 public:
  Aligner(const Tokenizer& tokenizer, std::string_view text) : tokenizer_(tokenizer), text_(text) {}

  /// One behind the last byte of each token; nothing where the tokenizer changed the text.
  std::vector<size_t> ends(std::span<const TokenId> ids) {
    std::vector<size_t> found;
    bool after_added = false;
    for (const TokenId id : ids) {
      const std::string surface = tokenizer_.surface(id, false);
      const bool added = surface.empty();
      const std::string spelling = added ? tokenizer_.piece(id) : surface;
      if (!match_either(spelling)) {
        // Such a token may take the space before and behind it along.
        if (!added && !after_added) return {};
        skip_space();
        if (after_added) found.back() = at_;
        if (!match_either(spelling)) return {};
      }
      found.push_back(at_);
      after_added = added;
    }
    if (after_added) skip_space();
    if (found.empty() || at_ != text_.size()) return {};
    found.back() = at_;
    return found;
  }

 private:
  /// A space in front of a word may be the tokenizer's own.
  bool match_either(std::string_view spelling) {
    return match(spelling) || (spelling.starts_with(' ') && match(spelling.substr(1)));
  }
  bool match(std::string_view spelling) {
    if (text_.substr(at_, spelling.size()) != spelling) return false;
    at_ += spelling.size();
    return true;
  }
  void skip_space() {
    while (at_ < text_.size() && is_space(text_[at_])) ++at_;
  }

  const Tokenizer& tokenizer_;
  std::string_view text_;
  size_t at_ = 0;
};

/// The tokens that a span has where only the tokenizer knows what it makes of the text: those behind the ones
/// that the text before the span has, too.
void cover_by_encoding(const Tokenizer& tokenizer, std::string_view text, std::span<const TokenId> ids,
                       std::pair<size_t, size_t> span, std::vector<uint8_t>& covered) {
  const auto tokens_before = [&](size_t byte, bool with_half) {
    const auto part = tokenizer.encode(text.substr(0, byte), {.parse_special = true, .unfinished = true});
    const size_t same = common_prefix(part, ids);
    return same + (with_half && same < part.size() ? 1 : 0);
  };
  const size_t first = tokens_before(span.first, false);
  const size_t last = std::min(ids.size(), tokens_before(span.second, true));
  for (size_t i = first; i < last; ++i) covered[i] = 1;
}
}  // namespace

std::vector<uint8_t> covered_tokens(const Tokenizer& tokenizer, std::string_view text,
                                    std::span<const TokenId> ids, const ByteSpans& spans) {
  std::vector<uint8_t> covered(ids.size());
  const std::vector<size_t> ends = Aligner(tokenizer, text).ends(ids);
  if (ends.empty()) {
    for (const auto& span : spans) cover_by_encoding(tokenizer, text, ids, span, covered);
    return covered;
  }
  size_t begin = 0;
  auto span = spans.begin();
  for (size_t i = 0; i < ids.size(); begin = ends[i++]) {
    while (span != spans.end() && span->second <= begin) ++span;
    if (span == spans.end()) break;
    // A token without bytes of its own belongs to what follows it.
    covered[i] = begin < span->second && (ends[i] > span->first || begin == span->first);
  }
  return covered;
}

}  // namespace llmtool
