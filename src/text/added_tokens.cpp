#include "text/added_tokens.h"

#include <algorithm>

#include "text/unicode.h"

namespace llmtool {

namespace {
/// Where the last character of `text` begins.
size_t last_character(std::string_view text) {
  size_t at = text.size() - 1;
  while (at > 0 && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}
bool stands_alone(std::string_view text, size_t begin, size_t end) {
  if (begin > 0) {
    size_t at = last_character(text.substr(0, begin));
    if (unicode::is_word(unicode::next(text, at))) return false;
  }
  return end == text.size() || !unicode::is_word(unicode::next(text, end));
}
size_t without_spaces_before(std::string_view text, size_t begin, size_t least) {
  while (begin > least) {
    const size_t from = last_character(text.substr(0, begin));
    size_t at = from;
    if (!unicode::is_space(unicode::next(text, at))) break;
    begin = from;
  }
  return std::max(begin, least);
}
size_t with_spaces_after(std::string_view text, size_t end) {
  while (end < text.size()) {
    size_t at = end;
    if (!unicode::is_space(unicode::next(text, at))) break;
    end = at;
  }
  return end;
}
}  // namespace

void AddedTokenFinder::add(const AddedToken& token, std::string_view pattern) {
  if (pattern.empty()) return;
  begins_[static_cast<uint8_t>(pattern[0])] = true;
  size_t node = 0;
  for (const char c : pattern) {
    const auto byte = static_cast<uint8_t>(c);
    auto& children = nodes_[node].children;
    const auto it = std::lower_bound(children.begin(), children.end(), std::pair(byte, uint32_t{0}));
    if (it != children.end() && it->first == byte) {
      node = it->second;
      continue;
    }
    const auto fresh = static_cast<uint32_t>(nodes_.size());
    children.insert(it, {byte, fresh});
    nodes_.emplace_back();
    node = fresh;
  }
  nodes_[node].token = static_cast<int64_t>(tokens_.size());
  tokens_.push_back(token);
}

void AddedTokenFinder::cut(std::string_view text, bool special,
                           const std::function<void(std::string_view, const AddedToken*)>& found) const {
  size_t done = 0;
  for (size_t from = 0; !tokens_.empty() && from < text.size();) {
    if (!begins_[static_cast<uint8_t>(text[from])]) {
      ++from;
      continue;
    }
    int64_t longest = -1;
    size_t end = from + 1;
    for (size_t at = from, node = 0; at < text.size(); ++at) {
      const auto byte = static_cast<uint8_t>(text[at]);
      const auto& children = nodes_[node].children;
      const auto it = std::lower_bound(children.begin(), children.end(), std::pair(byte, uint32_t{0}));
      if (it == children.end() || it->first != byte) break;
      node = it->second;
      if (nodes_[node].token < 0) continue;
      longest = nodes_[node].token;
      end = at + 1;
    }
    size_t begin = from;
    from = end;
    if (longest < 0) continue;
    const AddedToken& token = tokens_[static_cast<size_t>(longest)];
    if (token.special && !special) continue;
    if (token.single_word && !stands_alone(text, begin, end)) continue;
    if (token.lstrip) begin = without_spaces_before(text, begin, done);
    if (token.rstrip) end = with_spaces_after(text, end);
    // White space that the one before took may hold a token's beginning.
    begin = std::max(begin, done);
    if (done < begin) found(text.substr(done, begin - done), nullptr);
    found(text.substr(begin, std::max(end, begin) - begin), &token);
    done = std::max(end, begin);
  }
  if (done < text.size()) found(text.substr(done), nullptr);
}

}  // namespace llmtool
