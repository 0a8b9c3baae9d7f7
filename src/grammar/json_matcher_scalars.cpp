// Literals, numbers and strings as JsonMatcher reads them.

#include <algorithm>

#include "grammar/json_matcher.h"

namespace llmtool {
namespace {

constexpr uint32_t kLastCode = 0x10FFFF;

bool is_digit(uint8_t byte) { return byte >= '0' && byte <= '9'; }

std::string utf8(uint32_t code) {
  std::string text;
  if (code < 0x80) return {char(code)};
  if (code < 0x800) return {char(0xC0 | code >> 6), char(0x80 | (code & 63))};
  if (code < 0x10000) text = {char(0xE0 | code >> 12)};
  if (code >= 0x10000) text = {char(0xF0 | code >> 18), char(0x80 | (code >> 12 & 63))};
  return text += {char(0x80 | (code >> 6 & 63)), char(0x80 | (code & 63))};
}

bool ends_within_character(std::string_view text) {
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
    const auto byte = uint8_t(text[text.size() - back]);
    if (byte >= 0xC0) return back < (byte >= 0xF0 ? 4u : byte >= 0xE0 ? 3u : 2u);
    if (byte < 0x80) return false;
  }
  return false;
}

/// The supplementary code points of pairs whose first halves are `first` to `last`.
uint32_t first_of_pair(uint32_t half) { return 0x10000 + ((half - 0xD800) << 10); }

}  // namespace

void JsonStringLexer::append_key(std::string& key) const {
  key.push_back(char(part));
  if (part != Part::text) {
    for (const uint32_t value : {uint32_t(digits), code, high}) key += std::to_string(value) + ';';
  } else {
    key.push_back(char(tail));
    if (tail > 0) key += {char(tail_low), char(tail_high)};
  }
}

bool JsonMatcher::read_literal(uint8_t byte) {
  if (uint8_t(*literal_) != byte) return false;
  return *++literal_ != 0 || end_value(text_.size());
}

bool JsonMatcher::continues_number(uint8_t byte) {
  const auto go = [&](NumberPart part) {
    number_ = part;
    return true;
  };
  const bool digit = is_digit(byte), e = byte == 'e' || byte == 'E';
  switch (number_) {
    case NumberPart::sign:
      return digit && go(byte == '0' ? NumberPart::zero : NumberPart::whole);
    case NumberPart::zero:
      return byte == '.' ? go(NumberPart::point) : e && go(NumberPart::e);
    case NumberPart::whole:
      return digit || (byte == '.' ? go(NumberPart::point) : e && go(NumberPart::e));
    case NumberPart::point:
      return digit && go(NumberPart::fraction);
    case NumberPart::fraction:
      return digit || (e && go(NumberPart::e));
    case NumberPart::e:
      return digit ? go(NumberPart::exponent) : (byte == '+' || byte == '-') && go(NumberPart::e_sign);
    case NumberPart::e_sign:
      return digit && go(NumberPart::exponent);
    case NumberPart::exponent:
      return digit;
  }
  return false;
}

bool JsonMatcher::read_number(uint8_t byte) {
  if (continues_number(byte)) {
    token_ += char(byte);
    return keep([&](const Thread& thread) { return number_viable(thread); });
  }
  if (!keep([&](const Thread& thread) { return number_ends(thread); })) return false;
  return end_value(text_.empty() ? 0 : text_.size() - 1) && at_ != At::done && read_after(byte);
}

namespace {

NumberSet without(NumberSet set, const DistinctItems::Values& values) {
  std::vector<Decimal> numbers;
  for (const std::string& value : values) {
    if (is_digit(uint8_t(value[0])) || value[0] == '-') numbers.emplace_back(value);
  }
  set.exclude(numbers);
  return set;
}

}  // namespace

bool JsonMatcher::number_viable(const Thread& thread) const {
  const NumberSet& set = graph_->number(thread.shape);
  const DistinctItems::Values* out = forbidden(thread.frame);
  if (set.unconstrained() && !out) return true;
  // What an exponent may still make of the digits is not worked out.
  if (number_ >= NumberPart::e) return false;
  return out ? without(set, *out).may_begin(token_) : set.may_begin(token_);
}

bool JsonMatcher::number_ends(const Thread& thread) const {
  const bool whole = number_ == NumberPart::zero || number_ == NumberPart::whole ||
                     number_ == NumberPart::fraction || number_ == NumberPart::exponent;
  if (!whole) return false;
  const NumberSet& set = graph_->number(thread.shape);
  const DistinctItems::Values* out = forbidden(thread.frame);
  if (set.unconstrained() && !out) return true;
  if (!set.unconstrained() && !set.may_end(token_)) return false;
  return !out || !is_forbidden(thread.frame, Decimal(token_).text());
}

bool JsonMatcher::read_string(uint8_t byte) {
  if (lexer_.part != JsonStringLexer::Part::text) return read_escape(byte);
  if (lexer_.tail > 0) {
    if (byte < lexer_.tail_low || byte > lexer_.tail_high) return false;
    --lexer_.tail;
    lexer_.tail_low = 0x80;
    lexer_.tail_high = 0xBF;
    return feed(byte);
  }
  if (byte == '"') return at_ == At::key ? end_key() : end_string();
  if (byte == '\\') {
    lexer_.part = JsonStringLexer::Part::escape;
    lexer_.high = 0;
    return keep([&](const Thread& thread) { return takes_any(thread, 0, kLastCode); });
  }
  if (byte < 0x20) return false;
  if (byte >= 0x80) {
    if (byte < 0xC2 || byte > 0xF4) return false;
    lexer_.tail = byte >= 0xF0 ? 3 : byte >= 0xE0 ? 2 : 1;
    lexer_.tail_low = byte == 0xE0 ? 0xA0 : byte == 0xF0 ? 0x90 : 0x80;
    lexer_.tail_high = byte == 0xED ? 0x9F : byte == 0xF4 ? 0x8F : 0xBF;
  }
  return feed(byte);
}

bool JsonMatcher::read_escape(uint8_t byte) {
  using Part = JsonStringLexer::Part;
  switch (lexer_.part) {
    case Part::escape: {
      static constexpr std::string_view kNames = "\"\\/bfnrt", kCodes = "\"\\/\b\f\n\r\t";
      if (const size_t found = kNames.find(char(byte)); found != kNames.npos) {
        lexer_ = {};
        return feed_code(uint8_t(kCodes[found]));
      }
      lexer_.part = Part::hex;
      lexer_.digits = 0;
      lexer_.code = 0;
      return byte == 'u';
    }
    case Part::second_escape:
      lexer_.part = Part::second_u;
      return byte == '\\';
    case Part::second_u:
      lexer_.part = Part::hex;
      lexer_.digits = 0;
      lexer_.code = 0;
      return byte == 'u';
    default:
      return read_hex(byte);
  }
}

bool JsonMatcher::read_hex(uint8_t byte) {
  const uint8_t letter = byte | 0x20;
  if (!is_digit(byte) && (letter < 'a' || letter > 'f')) return false;
  lexer_.code = lexer_.code * 16 + uint32_t(is_digit(byte) ? byte - '0' : letter - 'a' + 10);
  const int left = 4 * (4 - ++lexer_.digits);
  const uint32_t low = lexer_.code << left, high = low + (1u << left) - 1;
  if (!keep([&](const Thread& thread) { return takes_escape(thread, low, high); })) return false;
  if (left > 0) return true;
  if (lexer_.high == 0 && low >= 0xD800 && low < 0xDC00) {
    lexer_.high = low;
    lexer_.part = JsonStringLexer::Part::second_escape;
    return true;
  }
  const uint32_t code = lexer_.high ? first_of_pair(lexer_.high) + (low - 0xDC00) : low;
  lexer_ = {};
  return feed_code(code);
}

/// Whether \u with one of these numbers, a half of a pair among them, may go on.
bool JsonMatcher::takes_escape(const Thread& thread, uint32_t low, uint32_t high) const {
  if (lexer_.high) {
    const uint32_t first = std::max(low, 0xDC00u), last = std::min(high, 0xDFFFu);
    const uint32_t base = first_of_pair(lexer_.high);
    return first <= last && takes_any(thread, base + first - 0xDC00, base + last - 0xDC00);
  }
  if (low < 0xD800 && takes_any(thread, low, std::min(high, 0xD7FFu))) return true;
  if (high > 0xDFFF && takes_any(thread, std::max(low, 0xE000u), high)) return true;
  const uint32_t first = std::max(low, 0xD800u), last = std::min(high, 0xDBFFu);
  return first <= last && takes_any(thread, first_of_pair(first), first_of_pair(last) + 0x3FF);
}

/// Whether a string or key may go on with one of the code points.
bool JsonMatcher::takes_any(const Thread& thread, uint32_t low, uint32_t high) const {
  const bool free = at_ == At::string ? graph_->string(thread.shape).free() && !forbidden(thread.frame)
                                      : graph_->object(thread.frame->shape).free();
  if (free) return true;
  // Code points that share all bytes but the last are tried together.
  for (uint32_t block = low & ~63u; block <= high; block += 64) {
    if (block >= 0xD800 && block < 0xE000) continue;
    Thread front = thread;
    std::string text = token_;
    bool alive = true;
    const std::string spelling = utf8(std::max(block, low));
    for (size_t i = 0; i + 1 < spelling.size() && alive; ++i) {
      text += spelling[i];
      alive = step(front, uint8_t(spelling[i]), text);
    }
    for (uint32_t code = std::max(block, low); alive && code <= std::min(block + 63, high); ++code) {
      Thread end = front;
      const char last = utf8(code).back();
      if (step(end, uint8_t(last), text + last)) return true;
    }
  }
  return false;
}

bool JsonMatcher::feed_code(uint32_t code) {
  const std::string spelling = utf8(code);
  return std::all_of(spelling.begin(), spelling.end(), [&](char c) { return feed(uint8_t(c)); });
}

bool JsonMatcher::feed(uint8_t byte) {
  if (at_ == At::key || graph_->any_unique()) token_ += char(byte);
  return keep([&](Thread& thread) { return step(thread, byte, token_); });
}

bool JsonMatcher::step(Thread& thread, uint8_t byte, std::string_view text) const {
  if (at_ == At::key) {
    const JsonFrame& frame = *thread.frame;
    return graph_->object(frame.shape).step(frame.properties, thread.key, byte, text);
  }
  const StringShape& shape = graph_->string(thread.shape);
  if (!shape.free() && !shape.step(thread.string, byte)) return false;
  return string_viable(thread, text);
}

/// Whether what a string may become is not all forbidden.
bool JsonMatcher::string_viable(const Thread& thread, std::string_view text) const {
  const DistinctItems::Values* out = forbidden(thread.frame);
  if (!out) return true;
  const StringShape& shape = graph_->string(thread.shape);
  if (shape.any_text() && ends_within_character(text)) return true;
  size_t count = 0;
  for (const std::string& value : *out) {
    if (value[0] != '"') continue;
    const std::string other = nlohmann::json::parse(value);
    count += other.starts_with(text) && shape.accepts(other);
  }
  return count == 0 || shape.more_than(thread.string, count);
}

bool JsonMatcher::end_string() {
  const bool ends = keep([&](const Thread& thread) {
    if (!graph_->string(thread.shape).accepts(thread.string)) return false;
    return !forbidden(thread.frame) || !is_forbidden(thread.frame, nlohmann::json(token_).dump());
  });
  return ends && end_value(text_.size());
}

}  // namespace llmtool
