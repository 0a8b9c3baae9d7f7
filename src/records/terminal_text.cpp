#include "llmtool/records/terminal_text.h"

#include <unicode/uchar.h>

#include <algorithm>

#include "text/unicode.h"
#include "text/utf8.h"

namespace llmtool {

namespace {
int64_t width_of(char32_t c) {
  const auto code = static_cast<UChar32>(c);
  if (unicode::is_mark(c) || u_charType(code) == U_FORMAT_CHAR) return 0;
  const int wide = u_getIntPropertyValue(code, UCHAR_EAST_ASIAN_WIDTH);
  return wide == U_EA_WIDE || wide == U_EA_FULLWIDTH ? 2 : 1;
}

bool steers(char32_t c) {
  const bool control = c < 0x20 || (c >= 0x7F && c < 0xA0);
  const bool direction = (c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
  return (control && c != '\n' && c != '\t') || direction;
}
}  // namespace

int64_t display_width(std::string_view text) {
  int64_t width = 0;
  for (size_t at = 0; at < text.size();) width += width_of(unicode::next(text, at));
  return width;
}

std::string printable(std::string_view text) {
  std::string spare, out;
  const std::string_view good = unicode::well_formed(text, spare);
  for (size_t at = 0; at < good.size();) {
    const size_t from = at;
    const char32_t c = unicode::next(good, at);
    // A line break of Windows is one of ours.
    if (c == '\r' && at < good.size() && good[at] == '\n') continue;
    out += steers(c) ? kReplacement : good.substr(from, at - from);
  }
  return out;
}

std::string one_line(std::string_view text, int64_t columns) {
  const std::string shown = printable(text);
  std::string line;
  int64_t width = 0;
  size_t cut = 0;  // where "..." would begin
  for (size_t at = 0; at < shown.size();) {
    const size_t from = at;
    const char32_t c = unicode::next(shown, at);
    const bool space = unicode::is_space(c);
    if (space && (line.empty() || line.back() == ' ')) continue;
    if (width <= columns - 3) cut = line.size();
    width += space ? 1 : width_of(c);
    if (width > columns)
      return line.substr(0, cut).append(static_cast<size_t>(std::clamp<int64_t>(columns, 0, 3)), '.');
    if (space)
      line += ' ';
    else
      line.append(shown, from, at - from);
  }
  if (!line.empty() && line.back() == ' ') line.pop_back();
  return line;
}

}  // namespace llmtool
