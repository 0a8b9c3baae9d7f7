#include "grammar/number_set.h"

#include <algorithm>
#include <numeric>

namespace llmtool {
namespace {

constexpr size_t kMaxStepDigits = 18;

std::optional<uint64_t> times_power_of_ten(uint64_t value, int64_t power) {
  if (power > int64_t(kMaxStepDigits)) return std::nullopt;
  Wide product = value;
  for (int64_t i = 0; i < power; ++i) product *= 10;
  if (product > 1'000'000'000'000'000'000u) return std::nullopt;
  return uint64_t(product);
}

/// Zeros that end the digits behind the point.
size_t padding(std::string_view text) {
  if (text.find('.') == text.npos) return 0;
  return text.size() - 1 - text.find_last_not_of('0');
}

void keep_those(std::vector<Decimal>& values, const std::vector<Decimal>& keep) {
  std::erase_if(values,
                [&](const Decimal& v) { return std::find(keep.begin(), keep.end(), v) == keep.end(); });
}

}  // namespace

void NumberSet::Bounds::raise(const Decimal& limit, bool open) {
  if (low && (*low > limit || (*low == limit && low_open))) return;
  low = limit;
  low_open = open;
}

void NumberSet::Bounds::lower(const Decimal& limit, bool open) {
  if (high && (*high < limit || (*high == limit && high_open))) return;
  high = limit;
  high_open = open;
}

bool NumberSet::Bounds::contains(const Decimal& value) const {
  if (low && (value < *low || (low_open && value == *low))) return false;
  return !high || (value <= *high && !(high_open && value == *high));
}

NumberSet::Bounds NumberSet::Bounds::mirrored() const {
  Bounds result;
  if (high) result.low = high->negated();
  if (low) result.high = low->negated();
  result.low_open = high_open;
  result.high_open = low_open;
  return result;
}

std::optional<NumberSet::Step> NumberSet::step_of(const Decimal& value) {
  // The fewest digits that hold it: a precision may be negative, for a step of hundreds.
  bool exact = false;
  const std::string digits = value.scaled(value.precision(), exact);
  const size_t significant = digits.find_last_not_of('0') + 1;
  if (significant > kMaxStepDigits) return std::nullopt;
  return Step{std::stoull(digits.substr(0, significant)),
              value.precision() - int64_t(digits.size() - significant)};
}

std::optional<NumberSet::Step> NumberSet::common_multiple(Step a, Step b) {
  const int64_t precision = std::max(a.precision, b.precision);
  const auto x = times_power_of_ten(a.count, precision - a.precision);
  const auto y = times_power_of_ten(b.count, precision - b.precision);
  if (!x || !y) return std::nullopt;
  const Wide product = Wide(*x / std::gcd(*x, *y)) * *y;
  if (product > 1'000'000'000'000'000'000u) return std::nullopt;
  return Step{uint64_t(product), precision};
}

bool NumberSet::is_multiple(const Decimal& value, const Step& step) {
  bool exact = false;
  const std::string digits = value.scaled(step.precision, exact);
  return exact && digits_modulo(digits, step.count) == 0;
}

bool NumberSet::multiple_of(const Decimal& value) {
  auto step = step_of(value);
  if (step && step_) step = common_multiple(*step_, *step);
  if (step) step_ = step;
  return step.has_value();
}

bool NumberSet::not_multiple_of(const Decimal& value) {
  const auto step = step_of(value);
  if (step) not_steps_.push_back(*step);
  return step.has_value();
}

void NumberSet::exclude(const std::vector<Decimal>& values) {
  excluded_.insert(excluded_.end(), values.begin(), values.end());
  std::sort(excluded_.begin(), excluded_.end());
  excluded_.erase(std::unique(excluded_.begin(), excluded_.end()), excluded_.end());
}

void NumberSet::allow_only(const std::vector<Decimal>& values) {
  if (allowed_) {
    keep_those(*allowed_, values);
    return;
  }
  allowed_ = values;
  std::sort(allowed_->begin(), allowed_->end());
  allowed_->erase(std::unique(allowed_->begin(), allowed_->end()), allowed_->end());
}

bool NumberSet::unconstrained() const {
  return !bounds_.low && !bounds_.high && !step_ && not_steps_.empty() && excluded_.empty() && !allowed_;
}

bool NumberSet::passes(const Decimal& value) const {
  if (step_ && !is_multiple(value, *step_)) return false;
  for (const Step& step : not_steps_) {
    if (is_multiple(value, step)) return false;
  }
  if (std::binary_search(excluded_.begin(), excluded_.end(), value)) return false;
  return !allowed_ || std::binary_search(allowed_->begin(), allowed_->end(), value);
}

bool NumberSet::contains(const Decimal& value) const { return bounds_.contains(value) && passes(value); }

bool NumberSet::any_in(const Bounds& where) const {
  if (allowed_) {
    return std::any_of(allowed_->begin(), allowed_->end(),
                       [&](const Decimal& v) { return where.contains(v) && contains(v); });
  }
  Bounds both = bounds_;
  if (where.low) both.raise(*where.low, where.low_open);
  if (where.high) both.lower(*where.high, where.high_open);
  if (both.contains(Decimal()) && passes(Decimal())) return true;
  return any_above_zero(both, false) || any_above_zero(both.mirrored(), true);
}

bool NumberSet::any_above_zero(const Bounds& where, bool negative) const {
  Bounds above = where;
  above.raise(Decimal(), true);
  const Decimal& low = *above.low;
  if (above.high && (low > *above.high || (low == *above.high && (above.low_open || above.high_open)))) {
    return false;
  }
  if (!step_) {  // whatever is left out has gaps, so that only a single point can be missing
    return !above.high || low < *above.high || passes(negative ? low.negated() : low);
  }
  for (const Step& step : not_steps_) {
    const auto common = common_multiple(*step_, step);
    if (common && *common == *step_) return false;  // every multiple of the one is one of the other
  }
  bool exact = false;
  std::string digits = low.scaled(step_->precision, exact);
  if (!exact || above.low_open) digits = add_to_digits(std::move(digits), 1);
  const uint64_t rest = digits_modulo(digits, step_->count);
  if (rest > 0) digits = add_to_digits(std::move(digits), step_->count - rest);
  // Of the multiples in a row, forbidden ones are few: each rule forbids every second at most.
  const size_t tries = (excluded_.size() + 1) * 64;
  for (size_t i = 0; i < tries; ++i) {
    const Decimal value(digits, -step_->precision, negative);
    const Decimal size = negative ? value.negated() : value;
    if (!above.contains(size)) return false;
    if (passes(value)) return true;
    digits = add_to_digits(std::move(digits), step_->count);
  }
  return false;
}

bool NumberSet::infinite() const {
  if (allowed_) return false;
  if (empty()) return false;
  if (!bounds_.low || !bounds_.high) return true;
  return !step_ && *bounds_.low < *bounds_.high;
}

std::optional<std::vector<Decimal>> NumberSet::members(size_t most) const {
  if (infinite()) return std::nullopt;
  if (empty()) return std::vector<Decimal>{};
  std::vector<Decimal> result;
  if (allowed_) {
    for (const Decimal& value : *allowed_) {
      if (contains(value)) result.push_back(value);
    }
  } else {
    // A grid between two bounds, or one point.
    if (!step_) return contains(*bounds_.low) ? std::vector<Decimal>{*bounds_.low} : std::vector<Decimal>{};
    for (const bool negative : {false, true}) {
      const Bounds side = negative ? bounds_.mirrored() : bounds_;
      bool exact = false;
      std::string digits = "0";
      if (side.low && *side.low > Decimal()) digits = side.low->scaled(step_->precision, exact);
      if (const uint64_t over = digits_modulo(digits, step_->count)) {
        digits = add_to_digits(std::move(digits), step_->count - over);
      }
      for (;; digits = add_to_digits(std::move(digits), step_->count)) {
        const Decimal size(digits, -step_->precision);
        if (side.high && size > *side.high) break;
        const Decimal value = negative ? size.negated() : size;
        if (!(negative && size.zero()) && contains(value)) result.push_back(value);
        if (result.size() > most) return std::nullopt;
      }
    }
  }
  if (result.size() > most) return std::nullopt;
  return result;
}

bool NumberSet::discrete() const {
  return allowed_ || step_ || (bounds_.low && bounds_.high && *bounds_.low == *bounds_.high);
}

bool NumberSet::may_end(std::string_view text) const {
  return contains(Decimal(text)) && !(discrete() && padding(text) > 1);
}

bool NumberSet::any_digits_from(std::string_view text) const {
  if (allowed_ || !excluded_.empty() || !not_steps_.empty() || (step_ && *step_ != Step{})) return false;
  const bool negative = text[0] == '-';
  if (negative) text.remove_prefix(1);
  const Bounds side = negative ? bounds_.mirrored() : bounds_;
  if (side.high || text.empty()) return !side.high && !side.low;
  return !side.low || *side.low < Decimal(text);  // digits only add to it
}

bool NumberSet::may_begin(std::string_view text) const {
  const bool negative = text[0] == '-';
  if (negative) text.remove_prefix(1);
  const auto any_between = [&](const Decimal& from, const Decimal& to, bool open = false) {
    Bounds between;
    between.low = from;
    between.low_open = open;
    between.high = to;
    between.high_open = true;
    return any_in(negative ? between.mirrored() : between);
  };
  if (text.empty()) {
    Bounds below;
    below.high = Decimal();
    return any_in(below);
  }
  const size_t dot = text.find('.');
  if (dot != text.npos) {
    std::string digits(text.substr(0, dot));
    digits += text.substr(dot + 1);
    const int64_t exponent = -int64_t(text.size() - dot - 1);
    const bool padded = discrete() && padding(text) > 1;  // only what is finer than that may still come
    return any_between(Decimal(digits, exponent), Decimal(add_to_digits(digits, 1), exponent), padded);
  }
  const std::string digits(text);
  if (digits == "0") return any_between(Decimal(), Decimal("1"));
  const Bounds side = negative ? bounds_.mirrored() : bounds_;
  std::optional<Decimal> high = side.high;
  if (allowed_) {
    if (allowed_->empty()) return false;
    high = negative ? allowed_->front().negated() : allowed_->back();
  }
  if (!high) return !empty() && any_above_zero(side, negative);
  const std::string next = add_to_digits(digits, 1);
  for (int64_t zeros = 0;; ++zeros) {
    const Decimal from(digits, zeros);
    if (from > *high) return false;
    if (any_between(from, Decimal(next, zeros))) return true;
  }
}

}  // namespace llmtool
