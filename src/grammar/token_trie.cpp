#include "grammar/token_trie.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace llmtool {

namespace {
constexpr std::string_view kClosing = "\"}])\n";

size_t rank(const std::string& text) {
  const size_t place = kClosing.find(text[0]);
  return place != kClosing.npos ? place : kClosing.size() + static_cast<uint8_t>(text[0]);
}
}  // namespace

TokenTrie::TokenTrie(std::vector<std::string> given) : texts(std::move(given)) {
  std::vector<TokenId> order;
  for (size_t i = 0; i < texts.size(); ++i) {
    longest = std::max(longest, texts[i].size());
    if (!texts[i].empty()) order.push_back(static_cast<TokenId>(i));
  }
  const auto text = [&](TokenId id) -> const std::string& { return texts[static_cast<size_t>(id)]; };
  std::stable_sort(order.begin(), order.end(), [&](TokenId a, TokenId b) {
    const std::string &x = text(a), &y = text(b);
    return x[0] == y[0] ? x < y : rank(x) < rank(y);
  });
  std::vector<uint32_t> path;  // nodes from the top to where the last token ended
  std::string last;
  const auto close = [&](size_t depth) {
    for (; path.size() > depth; path.pop_back())
      nodes[path.back()].skip = static_cast<uint32_t>(nodes.size());
  };
  for (const TokenId id : order) {
    const std::string& t = text(id);
    const size_t shared =
        static_cast<size_t>(std::mismatch(last.begin(), last.end(), t.begin(), t.end()).first - last.begin());
    close(shared);
    for (size_t i = shared; i < t.size(); ++i) {
      path.push_back(static_cast<uint32_t>(nodes.size()));
      nodes.push_back({static_cast<uint8_t>(t[i]), static_cast<uint32_t>(i + 1), 0,
                       static_cast<uint32_t>(tokens.size())});
    }
    tokens.push_back(id);
    last = t;
  }
  close(0);
  nodes.push_back({0, 0, 0, static_cast<uint32_t>(tokens.size())});
}

bool TokenTrie::spells_every_byte() const {
  std::array<bool, 256> alone{};
  for (const std::string& text : texts) {
    if (text.size() == 1) alone[static_cast<uint8_t>(text[0])] = true;
  }
  for (size_t b = 0; b < 0xF5; ++b) {
    if (!alone[b] && b != 0xC0 && b != 0xC1) return false;
  }
  return true;
}

}  // namespace llmtool
