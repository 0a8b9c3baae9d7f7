#pragma once
// NumberSet: what JSON Schema's keywords leave of the numbers, and whether a number half written is on its
// way to one of them.

#include <optional>
#include <string_view>
#include <vector>

#include "grammar/decimal.h"

namespace llmtool {

class NumberSet {
 public:
  struct Bounds {
    std::optional<Decimal> low, high;
    bool low_open = false, high_open = false;

    void raise(const Decimal& limit, bool open);
    void lower(const Decimal& limit, bool open);
    bool contains(const Decimal& value) const;
    Bounds mirrored() const;
  };

  void at_least(const Decimal& limit, bool open) { bounds_.raise(limit, open); }
  void at_most(const Decimal& limit, bool open) { bounds_.lower(limit, open); }
  /// These two give false where the steps cannot be computed with: more than 18 digits.
  bool multiple_of(const Decimal& step);
  bool not_multiple_of(const Decimal& step);
  void exclude(const std::vector<Decimal>& values);
  void allow_only(const std::vector<Decimal>& values);

  bool unconstrained() const;
  bool contains(const Decimal& value) const;
  bool empty() const { return !any_in({}); }
  /// Whether there are endlessly many; false only where they are counted.
  bool infinite() const;
  /// The members where they are finitely many and at most `most`.
  std::optional<std::vector<Decimal>> members(size_t most) const;
  /// Whether `text`, a number without an exponent, is a spelling of a member. Where members stand apart, as
  /// integers do, at most one zero more than is needed may end a fraction: else 5.000... would never end.
  bool may_end(std::string_view text) const;
  /// Whether digits (and a point) behind `text`, the beginning of a number, lead to such a spelling.
  bool may_begin(std::string_view text) const;
  /// Whether what goes on from there does not depend on the digits of `text`, which may begin a member.
  bool any_digits_from(std::string_view text) const;

  friend bool operator==(const NumberSet& a, const NumberSet& b) = default;

 private:
  struct Step {  // multiples of count * 10^-precision
    uint64_t count = 1;
    int64_t precision = 0;
    friend bool operator==(const Step& a, const Step& b) = default;
  };
  static std::optional<Step> step_of(const Decimal& value);
  static std::optional<Step> common_multiple(Step a, Step b);
  static bool is_multiple(const Decimal& value, const Step& step);
  bool discrete() const;                    // between any two members only so many others
  bool passes(const Decimal& value) const;  // all but the bounds
  bool any_in(const Bounds& where) const;
  bool any_above_zero(const Bounds& where, bool negative) const;

  Bounds bounds_;
  std::optional<Step> step_;
  std::vector<Step> not_steps_;
  std::vector<Decimal> excluded_;  // sorted
  std::optional<std::vector<Decimal>> allowed_;
  friend bool operator==(const Bounds& a, const Bounds& b);
};

inline bool operator==(const NumberSet::Bounds& a, const NumberSet::Bounds& b) {
  return a.low == b.low && a.high == b.high && a.low_open == b.low_open && a.high_open == b.high_open;
}

}  // namespace llmtool
