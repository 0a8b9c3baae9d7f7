#include "grammar/decimal.h"

#include "llmtool/core/error.h"

namespace llmtool {
namespace {

// No document that is kept in memory needs more; sums of two stay far from overflow.
constexpr int64_t kMaxExponent = int64_t{1} << 40;

int64_t read_exponent(std::string_view text) {
  const bool negative = !text.empty() && text[0] == '-';
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
  int64_t value = 0;
  for (const char c : text) value = std::min(value * 10 + (c - '0'), kMaxExponent);
  return negative ? -value : value;
}

}  // namespace

Decimal::Decimal(std::string_view text) {
  if (!text.empty() && text[0] == '-') {
    negative_ = true;
    text.remove_prefix(1);
  }
  const size_t e = text.find_first_of("eE");
  const int64_t exponent = e == text.npos ? 0 : read_exponent(text.substr(e + 1));
  text = text.substr(0, e);
  const size_t dot = text.find('.');
  digits_ = text.substr(0, dot);
  point_ = int64_t(digits_.size()) + exponent;
  if (dot != text.npos) digits_ += text.substr(dot + 1);
  normalize();
}

Decimal::Decimal(std::string_view digits, int64_t exponent, bool negative)
    : negative_(negative), digits_(digits), point_(int64_t(digits.size()) + exponent) {
  normalize();
}

Decimal Decimal::of(const nlohmann::json& number) { return Decimal(number.dump()); }

void Decimal::normalize() {
  const size_t first = digits_.find_first_not_of('0');
  if (first == digits_.npos) {
    *this = Decimal();
    return;
  }
  digits_.erase(0, first);
  point_ -= int64_t(first);
  digits_.erase(digits_.find_last_not_of('0') + 1);
}

Decimal Decimal::negated() const {
  Decimal result = *this;
  result.negative_ = !zero() && !negative_;
  return result;
}

std::string Decimal::scaled(int64_t precision, bool& exact) const {
  exact = zero() || point_ + precision >= int64_t(digits_.size());
  if (zero() || point_ + precision <= 0) return "0";
  std::string digits = digits_.substr(0, size_t(std::min(point_ + precision, int64_t(digits_.size()))));
  digits.append(size_t(point_ + precision) - digits.size(), '0');
  return digits;
}

std::string Decimal::text() const {
  if (zero()) return "0";
  return cat(negative_ ? "-" : "", "0.", digits_, "e", point_);
}

std::strong_ordering operator<=>(const Decimal& a, const Decimal& b) {
  const auto sign = [](const Decimal& d) { return d.zero() ? 0 : d.negative_ ? -1 : 1; };
  if (sign(a) != sign(b) || a.zero()) return sign(a) <=> sign(b);
  const Decimal& smaller_first = a.negative_ ? b : a;
  const Decimal& other = a.negative_ ? a : b;
  if (a.point_ != b.point_) return smaller_first.point_ <=> other.point_;
  return smaller_first.digits_.compare(other.digits_) <=> 0;  // no trailing zeros: a prefix is the smaller
}

std::string add_to_digits(std::string digits, uint64_t addend) {
  for (size_t i = digits.size(); addend > 0; --i) {
    if (i == 0) return std::to_string(addend) + digits;
    addend += uint64_t(digits[i - 1] - '0');
    digits[i - 1] = char('0' + addend % 10);
    addend /= 10;
  }
  return digits;
}

uint64_t digits_modulo(std::string_view digits, uint64_t modulus) {
  Wide remainder = 0;
  for (const char c : digits) remainder = (remainder * 10 + unsigned(c - '0')) % modulus;
  return uint64_t(remainder);
}

}  // namespace llmtool
