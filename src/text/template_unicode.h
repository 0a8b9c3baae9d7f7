#pragma once
// Strings as Python sees them, sequences of code points, over UTF-8 that is known to be well-formed.

#include <cstdint>
#include <string>
#include <string_view>

#include "text/unicode.h"

namespace llmtool::jinja {

std::string utf8(char32_t c);
/// The byte where that code point begins; the text's size where there are fewer.
size_t byte_offset(std::string_view text, size_t index);
std::u32string decode(std::string_view text);
std::string encode(std::u32string_view text);

bool is_space(char32_t c);  // str.isspace, and \s
bool is_alpha(char32_t c);
bool is_decimal(char32_t c);
bool is_digit(char32_t c);
bool is_numeric(char32_t c);
bool is_lower(char32_t c);
bool is_upper(char32_t c);
bool is_title(char32_t c);
bool is_cased(char32_t c);
bool is_printable(char32_t c);
bool is_identifier_start(char32_t c);
bool is_identifier_part(char32_t c);
int decimal_value(char32_t c);  // -1 where there is none
inline bool is_word(char32_t c) { return c == '_' || is_alpha(c) || is_numeric(c); }

enum class Case { kLower, kUpper, kTitle, kFold };
/// The full mapping of one character of `text` (a capital sigma looks around).
void append_mapped(std::string& out, std::string_view text, size_t at, char32_t c, Case to);
std::string mapped(std::string_view text, Case to);  // lower, upper or fold throughout
std::string capitalized(std::string_view text);
std::string titled(std::string_view text);  // str.title
std::string swapped(std::string_view text);

std::string_view strip(std::string_view text, bool left, bool right);
std::string_view strip(std::string_view text, std::string_view characters, bool left, bool right);
/// In time linear in both.
size_t find(std::string_view text, std::string_view needle, size_t from = 0);
size_t find_last(std::string_view text, std::string_view needle);

}  // namespace llmtool::jinja
