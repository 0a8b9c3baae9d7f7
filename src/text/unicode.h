#pragma once
// Unicode as the tokenizers of the reference library see it; the data are ICU's.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace llmtool::unicode {

/// The code point at `at` of well-formed UTF-8; moves `at` behind it.
char32_t next(std::string_view text, size_t& at);
void append(std::string& text, char32_t c);
size_t length(std::string_view text);  // in code points
bool is_ascii(std::string_view text);
bool is_well_formed(std::string_view text);
/// The text with every byte sequence that is not UTF-8 (in the longest pieces that could have begun a
/// character) replaced by one U+FFFD; `text` itself where there is none, for which `spare` is not touched.
std::string_view well_formed(std::string_view text, std::string& spare);

enum class Form { nfc, nfd, nfkc, nfkd };
std::string normalized(std::string_view text, Form form);
std::string lowercase(std::string_view text);  // character by character, whatever stands around
/// Calls found(begin, end) for each grapheme cluster.
void for_graphemes(std::string_view text, const std::function<void(size_t, size_t)>& found);

bool is_space(char32_t c);            // White_Space
bool is_word(char32_t c);             // \w: Alphabetic, M*, Nd, Pc, Join_Control
bool is_numeric(char32_t c);          // Nd, Nl, No
bool is_punctuation(char32_t c);      // of ASCII all but letters and digits; P* as of Unicode 8
bool is_mark(char32_t c);             // M* as of Unicode 9
bool is_nonspacing_mark(char32_t c);  // Mn as of Unicode 8
bool is_control(char32_t c);          // C* as of Unicode 8, but unassigned ones
bool is_cjk(char32_t c);              // what BERT takes for a Chinese character

}  // namespace llmtool::unicode
