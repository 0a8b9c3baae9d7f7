#pragma once
// Decimal: numbers as JSON writes them, exact whatever their size.

#include <compare>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace llmtool {

__extension__ typedef unsigned __int128 Wide;

/// A magnitude 0.d1d2d3... * 10^point with d1 and the last digit not 0; zero has no digits.
class Decimal {
 public:
  Decimal() = default;
  /// `text` is a number in JSON's grammar (the sign is read too).
  explicit Decimal(std::string_view text);
  /// The value of digits with `exponent` zeros behind them (or so many of them behind the point).
  Decimal(std::string_view digits, int64_t exponent, bool negative = false);
  /// A number of a parsed document: a double is the shortest decimal that reads as it.
  static Decimal of(const nlohmann::json& number);

  bool zero() const { return digits_.empty(); }
  bool negative() const { return negative_; }
  bool integer() const { return point_ >= int64_t(digits_.size()); }
  Decimal negated() const;
  /// Digits behind the point; 0 for integers.
  int64_t precision() const { return integer() ? 0 : int64_t(digits_.size()) - point_; }
  /// Where the first digit stands: the value is below 10^point().
  int64_t point() const { return point_; }
  /// The digits of |value| * 10^precision, cut to an integer; `exact` says whether nothing was cut.
  std::string scaled(int64_t precision, bool& exact) const;
  /// One text for equal values.
  std::string text() const;

  friend bool operator==(const Decimal& a, const Decimal& b) = default;
  friend std::strong_ordering operator<=>(const Decimal& a, const Decimal& b);

 private:
  void normalize();

  bool negative_ = false;
  std::string digits_;
  int64_t point_ = 0;
};

/// digits + addend, as digits.
std::string add_to_digits(std::string digits, uint64_t addend);
/// The number that digits write, modulo `modulus` (not 0).
uint64_t digits_modulo(std::string_view digits, uint64_t modulus);

}  // namespace llmtool
