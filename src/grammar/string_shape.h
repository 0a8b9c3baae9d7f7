#pragma once
// StringShape: strings of one language and of so many code points, read byte by byte.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/string_languages.h"

namespace llmtool {

class StringShape {
 public:
  struct Cursor {
    ByteDfa::State state = 0;
    uint64_t length = 0;  // code points begun
    friend bool operator==(const Cursor& a, const Cursor& b) = default;
  };

  /// `dfa` null: any text. It is kept by the caller.
  StringShape(const ByteDfa* dfa, uint64_t min, uint64_t max);

  bool empty() const { return !viable(start()); }
  /// Whether every text is one: then nothing need be read.
  bool any_text() const { return !dfa_; }
  bool free() const { return !dfa_ && min_ == 0 && max_ == kNoLimit; }
  Cursor start() const { return {dfa_ ? dfa_->start() : 0, 0}; }
  /// Whether some text of the shape goes on from there with `byte`, of well-formed UTF-8.
  bool step(Cursor& cursor, uint8_t byte) const {
    if (dfa_) cursor.state = dfa_->next(cursor.state, byte);
    cursor.length += (byte & 0xC0) != 0x80;
    return viable(cursor);
  }
  bool viable(const Cursor& cursor) const;
  bool accepts(const Cursor& cursor) const {
    return cursor.length >= min_ && cursor.length <= max_ && (!dfa_ || dfa_->accepts(cursor.state));
  }
  bool accepts(std::string_view text) const;
  /// Whether more than `count` texts go on from there, at the end of a character unless there is a language.
  bool more_than(const Cursor& cursor, size_t count) const;
  /// The texts where they are at most `most`.
  std::optional<std::vector<std::string>> members(size_t most) const;
  void append_key(std::string& key, const Cursor& cursor, int64_t reach) const;

 private:
  struct Edge {
    uint32_t from, to;
    bool begins;  // a code point
  };
  void measure(const std::vector<Edge>& edges);
  void list_lengths(const std::vector<Edge>& edges);

  const ByteDfa* dfa_;
  uint64_t min_, max_;
  // By state: code points to the nearest end, to the farthest (kNoLimit: endless), and, where both bounds
  // matter, which numbers of code points up to max_ lead to an end.
  std::vector<uint64_t> nearest_, farthest_;
  std::vector<std::vector<bool>> lengths_;
  uint64_t spread_ = 0;  // the largest of them that is not endless
};

}  // namespace llmtool
