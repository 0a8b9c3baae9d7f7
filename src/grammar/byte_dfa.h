#pragma once
// ByteDfa: a regular language of UTF-8 texts as a table: intersected, complemented, asked whether it is
// empty.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/expression.h"

namespace llmtool {

/// Minimal: two states differ in what they accept, and from every state but kDead an accepting one is
/// reached. Immutable; every function that makes one throws UsageError, opening with `origin` where it has
/// one, on a language that takes more than kMaxStates.
class ByteDfa {
 public:
  using State = uint32_t;
  static constexpr State kDead = 0;  // no text goes on
  static constexpr size_t kMaxStates = 1 << 16;

  /// The texts that are `expression` as a whole. It may not refer to rules.
  ByteDfa(Expression expression, const std::string& origin);
  /// The texts in which an ECMA-262 regular expression (flag u) is found; ^ and $ are the text's ends. Throws
  /// UsageError, with the position, on what is not well-formed or not regular.
  static ByteDfa search(std::string_view regex, const std::string& origin);
  /// Texts of so many code points; most < 0: no bound.
  static ByteDfa of_length(int64_t least, int64_t most, const std::string& origin);
  static ByteDfa any();  // every well-formed text
  static ByteDfa of_text(std::string_view text);

  State start() const { return start_; }
  State next(State state, uint8_t byte) const { return table_[state * width_ + class_[byte]]; }
  bool accepts(State state) const { return shortest_[state] == 0; }
  /// Bytes of the shortest text that is accepted from here; kNever from kDead.
  uint32_t shortest(State state) const { return shortest_[state]; }
  static constexpr uint32_t kNever = UINT32_MAX;
  bool empty() const { return start_ == kDead; }
  size_t size() const { return shortest_.size(); }  // states, kDead among them
  /// Whether `text` as a whole is accepted.
  bool matches(std::string_view text) const;
  /// Classes of states that accept the same continuations of at most `reach` bytes.
  std::vector<uint32_t> classes(int64_t reach) const;

  enum class Combine { both, either, first_only };
  /// The texts of both, of either, or of `a` without those of `b`. The moves that this makes are taken from
  /// `budget`; throws UsageError where it is used up, too.
  static ByteDfa combined(const ByteDfa& a, const ByteDfa& b, Combine how, const std::string& origin,
                          size_t& budget);

 private:
  ByteDfa() = default;
  /// Merges the states that accept the same; state 0 is dead already.
  void minimize(const std::vector<bool>& accepting);
  void renumber(const std::vector<uint32_t>& block_of, const std::vector<bool>& accepting);
  void merge_classes();
  void measure(const std::vector<bool>& accepting);

  State start_ = kDead;
  uint32_t width_ = 0;  // classes of bytes
  std::array<uint8_t, 256> class_{};
  std::vector<State> table_;  // (states, width_)
  std::vector<uint32_t> shortest_;
};

}  // namespace llmtool
