#include "text/split.h"

#include <algorithm>

#include "llmtool/core/error.h"
#include "text/unicode.h"

namespace llmtool {

std::vector<Span> spans_of(const Regex& pattern, std::string_view text) {
  std::vector<Span> spans;
  size_t done = 0;
  pattern.for_each(text, [&](size_t begin, size_t end) {
    if (done < begin) spans.push_back({done, begin, false});
    spans.push_back({begin, end, true});
    done = end;
  });
  if (done < text.size()) spans.push_back({done, text.size(), false});
  return spans;
}

std::vector<Span> spans_of(const std::function<bool(char32_t)>& is_match, std::string_view text) {
  std::vector<Span> spans;
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t from = at;
    if (!is_match(unicode::next(text, at))) continue;
    if (done < from) spans.push_back({done, from, false});
    spans.push_back({from, at, true});
    done = at;
  }
  if (done < text.size()) spans.push_back({done, text.size(), false});
  return spans;
}

namespace {
/// Whether a span joins the one that was looked at before it.
bool joins(const Span& span, bool previous_match, SplitBehavior behavior) {
  return behavior == SplitBehavior::contiguous ? span.match == previous_match : span.match && !previous_match;
}
}  // namespace

std::vector<Span> split(const std::vector<Span>& spans, SplitBehavior behavior) {
  std::vector<Span> parts;
  bool previous_match = false;
  const auto take = [&](const Span& span) {
    if (!parts.empty() && joins(span, previous_match, behavior)) {
      parts.back().begin = std::min(parts.back().begin, span.begin);
      parts.back().end = std::max(parts.back().end, span.end);
    } else {
      parts.push_back(span);
    }
    previous_match = span.match;
  };
  switch (behavior) {
    case SplitBehavior::removed:
      for (const Span& span : spans) {
        if (!span.match) parts.push_back(span);
      }
      break;
    case SplitBehavior::isolated:
      parts = spans;
      break;
    case SplitBehavior::merged_with_next:
      for (auto span = spans.rbegin(); span != spans.rend(); ++span) take(*span);
      std::reverse(parts.begin(), parts.end());
      break;
    default:
      for (const Span& span : spans) take(span);
  }
  std::erase_if(parts, [](const Span& span) { return span.begin == span.end; });
  return parts;
}

Regex read_pattern(const JsonObject& o) {
  if (!o.has("pattern"))
    throw Error(o.origin() + ": pattern: expected a string or an expression, found nothing");
  const JsonObject pattern(o.json().at("pattern"), o.origin() + ": pattern");
  if (pattern.has("String")) {
    const std::string text = pattern.string("String");
    // An empty text is found nowhere.
    return Regex(text.empty() ? "(?!)" : regex_of_literal(text), pattern.origin(), Regex::Syntax::pcre);
  }
  return Regex(pattern.string("Regex"), pattern.origin());
}

SplitBehavior read_behavior(const JsonObject& o, const char* absent) {
  const std::string name = absent ? o.string("behavior", absent) : o.string("behavior");
  if (name == "Removed") return SplitBehavior::removed;
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (name == "Contiguous") return SplitBehavior::contiguous;
  throw Error(cat(o.origin(),
                  ": behavior: expected Removed, Isolated, MergedWithPrevious, MergedWithNext or "
                  "Contiguous, found \"",
                  name, "\""));
}

}  // namespace llmtool
