#include "grammar/string_shape.h"

#include <algorithm>
#include <deque>

#include "llmtool/core/error.h"
#include "text/utf8.h"

namespace llmtool {
namespace {

constexpr uint64_t kMaxTable = 1 << 26;  // bits

enum class Tail { whole, open, broken };

/// Of well-formed text with one byte more: whether its last character is whole, could become one, or cannot.
Tail tail_of(std::string_view text) {
  size_t begin = text.size();
  while (begin > 0 && (uint8_t(text[begin - 1]) & 0xC0) == 0x80) --begin;
  if (begin == 0) return text.empty() ? Tail::whole : Tail::broken;
  const std::string_view last = text.substr(begin - 1);
  bool open = false;
  const auto length = static_cast<size_t>(utf8_length(last, &open));
  return length == last.size() ? Tail::whole : open ? Tail::open : Tail::broken;
}

void append_number(std::string& key, uint64_t value) {
  for (int i = 0; i < 8; ++i) key.push_back(char(value >> (8 * i)));
}

}  // namespace

StringShape::StringShape(const ByteDfa* dfa, uint64_t min, uint64_t max) : dfa_(dfa), min_(min), max_(max) {
  if (!dfa_ || (min_ == 0 && max_ == kNoLimit)) return;
  std::vector<Edge> edges;
  for (uint32_t s = 1; s < dfa_->size(); ++s) {
    std::vector<Edge> out;
    for (int byte = 0; byte < 256; ++byte) {
      const uint32_t to = dfa_->next(s, uint8_t(byte));
      const bool begins = (byte & 0xC0) != 0x80;
      const bool known = std::any_of(out.begin(), out.end(),
                                     [&](const Edge& e) { return e.to == to && e.begins == begins; });
      if (to != ByteDfa::kDead && !known) out.push_back({s, to, begins});
    }
    edges.insert(edges.end(), out.begin(), out.end());
  }
  measure(edges);
  if (min_ > 0 && max_ != kNoLimit) list_lengths(edges);
}

void StringShape::measure(const std::vector<Edge>& edges) {
  const size_t states = dfa_->size();
  nearest_.assign(states, kNoLimit);
  farthest_.assign(states, 0);
  std::vector<std::vector<Edge>> into(states);
  std::vector<size_t> left(states, 0);
  std::deque<uint32_t> queue;
  for (const Edge& edge : edges) {
    into[edge.to].push_back(edge);
    ++left[edge.from];
  }
  for (uint32_t s = 1; s < states; ++s) {
    if (!dfa_->accepts(s)) continue;
    nearest_[s] = 0;
    queue.push_back(s);
  }
  while (!queue.empty()) {
    const uint32_t s = queue.front();
    queue.pop_front();
    for (const Edge& edge : into[s]) {
      const uint64_t through = nearest_[s] + edge.begins;
      if (through >= nearest_[edge.from]) continue;
      nearest_[edge.from] = through;
      edge.begins ? queue.push_back(edge.from) : queue.push_front(edge.from);
    }
  }
  std::vector<uint32_t> finished;
  for (uint32_t s = 1; s < states; ++s) {
    if (left[s] == 0) finished.push_back(s);
  }
  std::vector<bool> done(states, false);
  for (size_t i = 0; i < finished.size(); ++i) {
    done[finished[i]] = true;
    for (const Edge& edge : into[finished[i]]) {
      farthest_[edge.from] = std::max(farthest_[edge.from], farthest_[finished[i]] + edge.begins);
      if (--left[edge.from] == 0) finished.push_back(edge.from);
    }
  }
  for (uint32_t s = 1; s < states; ++s) {
    if (!done[s]) farthest_[s] = kNoLimit;  // a loop lies ahead
    spread_ = std::max(spread_, done[s] ? farthest_[s] : nearest_[s]);
  }
}

void StringShape::list_lengths(const std::vector<Edge>& edges) {
  if (max_ > kMaxTable / dfa_->size()) {
    throw UsageError("minLength, maxLength and pattern together need too large a table; lower maxLength");
  }
  lengths_.assign(dfa_->size(), std::vector<bool>(max_ + 1, false));
  for (uint64_t n = 0; n <= max_; ++n) {
    for (uint32_t s = 1; n == 0 && s < dfa_->size(); ++s) lengths_[s][0] = dfa_->accepts(s);
    for (const Edge& edge : edges) {
      if (edge.begins && n > 0 && lengths_[edge.to][n - 1]) lengths_[edge.from][n] = true;
    }
    for (int tail = 0; tail < 3; ++tail) {  // bytes that end a code point
      for (const Edge& edge : edges) {
        if (!edge.begins && lengths_[edge.to][n]) lengths_[edge.from][n] = true;
      }
    }
  }
}

bool StringShape::viable(const Cursor& cursor) const {
  if (cursor.length > max_) return false;
  if (!dfa_) return min_ <= max_;
  if (cursor.state == ByteDfa::kDead) return false;
  if (nearest_.empty()) return true;
  const uint64_t short_by = cursor.length < min_ ? min_ - cursor.length : 0;
  if (short_by > farthest_[cursor.state]) return false;
  if (max_ == kNoLimit) return true;
  if (short_by == 0) return nearest_[cursor.state] <= max_ - cursor.length;
  const auto& lengths = lengths_[cursor.state];
  for (uint64_t n = short_by; n <= max_ - cursor.length; ++n) {
    if (lengths[n]) return true;
  }
  return false;
}

bool StringShape::accepts(std::string_view text) const {
  Cursor cursor = start();
  for (const char c : text) {
    if (!step(cursor, uint8_t(c))) return false;
  }
  return accepts(cursor);
}

bool StringShape::more_than(const Cursor& cursor, size_t count) const {
  if (!dfa_) return cursor.length < max_ || count == 0;
  // Every viable beginning leads to a text of its own, so that as many as are wanted need be followed.
  std::vector<std::pair<Cursor, std::string>> beginnings = {{cursor, ""}}, next;
  size_t found = 0;
  while (!beginnings.empty()) {
    next.clear();
    for (const auto& [at, text] : beginnings) {
      found += tail_of(text) == Tail::whole && accepts(at);
      for (int byte = 0; byte < 256 && found + next.size() <= count; ++byte) {
        Cursor to = at;
        if (tail_of(text + char(byte)) == Tail::broken || !step(to, uint8_t(byte))) continue;
        next.emplace_back(to, text + char(byte));
      }
      if (found + next.size() > count) return true;
    }
    std::swap(beginnings, next);
  }
  return found > count;
}

std::optional<std::vector<std::string>> StringShape::members(size_t most) const {
  if (more_than(start(), most)) return std::nullopt;
  if (!dfa_) return max_ == 0 ? std::vector<std::string>{""} : std::vector<std::string>{};
  std::vector<std::pair<Cursor, std::string>> open = {{start(), ""}};
  std::vector<std::string> result;
  while (!open.empty() && viable(open.back().first)) {
    const auto [at, text] = open.back();
    open.pop_back();
    if (tail_of(text) == Tail::whole && accepts(at)) result.push_back(text);
    for (int byte = 0; byte < 256; ++byte) {
      Cursor to = at;
      if (tail_of(text + char(byte)) != Tail::broken && step(to, uint8_t(byte)))
        open.emplace_back(to, text + char(byte));
    }
  }
  return result;
}

void StringShape::append_key(std::string& key, const Cursor& cursor, int64_t reach) const {
  if (dfa_) append_number(key, cursor.state);
  // A code point takes a byte or more: bounds that are farther away cannot be met.
  const uint64_t far = uint64_t(reach) + 1 + spread_;
  const uint64_t short_by = cursor.length < min_ ? min_ - cursor.length : 0;
  const uint64_t room = max_ - cursor.length;
  if (min_ > 0) append_number(key, std::min(short_by, far));
  if (max_ != kNoLimit) append_number(key, lengths_.empty() ? std::min(room, far) : room);
}

}  // namespace llmtool
