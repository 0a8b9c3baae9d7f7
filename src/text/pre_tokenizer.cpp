#include "text/pre_tokenizer.h"

#include <memory>

#include "llmtool/core/error.h"
#include "text/byte_level.h"
#include "text/pre_tokenizer_names.h"
#include "llmtool/text/regex.h"
#include "text/split.h"
#include "text/unicode.h"

namespace llmtool {

namespace {
using nlohmann::json;
using Spans = std::function<std::vector<Span>(std::string_view)>;

/// Every word cut at the spans that `find` gives.
PreTokenizer splitter(Spans find, SplitBehavior behavior) {
  return [find, behavior](Words& words) {
    std::vector<Words::Word> parts;
    for (const Words::Word& word : words.list) {
      for (const Span& span : split(find(word.text), behavior)) {
        parts.push_back({word.text.substr(span.begin, span.end - span.begin), word.first && span.begin == 0});
      }
    }
    words.list = std::move(parts);
  };
}
PreTokenizer regex_splitter(Regex pattern, SplitBehavior behavior, bool invert) {
  return splitter(
      [pattern = std::move(pattern), invert](std::string_view text) {
        std::vector<Span> spans = spans_of(pattern, text);
        for (Span& span : spans) span.match = span.match != invert;
        return spans;
      },
      behavior);
}
PreTokenizer character_splitter(std::function<bool(char32_t)> is_match, SplitBehavior behavior) {
  return splitter([is_match](std::string_view text) { return spans_of(is_match, text); }, behavior);
}

/// Runs of word characters, and runs of others; what should go, white space, is the match.
std::vector<Span> runs_of_words(std::string_view text) {
  std::vector<Span> spans;
  int last = -1;
  for (size_t at = 0; at < text.size();) {
    const size_t from = at;
    const char32_t c = unicode::next(text, at);
    const int kind = unicode::is_word(c) ? 0 : unicode::is_space(c) ? 1 : 2;
    if (kind == last) {
      spans.back().end = at;
    } else {
      spans.push_back({from, at, kind == 1});
    }
    last = kind;
  }
  return spans;
}

/// Every word changed; change() says whether it did.
template <class Change>
void change_words(Words& words, Change change) {
  std::string spare;
  for (Words::Word& word : words.list) {
    if (change(word, spare)) word.text = words.changed.emplace_back(std::move(spare));
    spare.clear();
  }
}

PreTokenizer chained(PreTokenizer first, PreTokenizer second) {
  return [first, second](Words& words) {
    first(words);
    second(words);
  };
}

PreTokenizer byte_level(const JsonObject& o, ByteLevel& bytes, bool last) {
  if (bytes.used) throw Error(o.origin() + ": bytes become characters twice");
  bytes = {true, !last};
  PreTokenizer steps = [](Words&) {};
  if (o.boolean("add_prefix_space", true)) {
    steps = [](Words& words) {
      change_words(words, [&](const Words::Word& word, std::string& text) {
        if (word.text.starts_with(' ') || (word.first && words.continues)) return false;
        text.assign(1, ' ').append(word.text);
        return true;
      });
    };
  }
  if (o.boolean("use_regex", true))
    steps = chained(steps, regex_splitter(Regex(kGpt2Words, o.origin()), SplitBehavior::isolated, false));
  if (last) return steps;
  return chained(steps, [](Words& words) {
    change_words(words, [](const Words::Word& word, std::string& text) {
      text = characters_of_bytes(word.text);
      return true;
    });
  });
}

std::string one_character(const JsonObject& o, const char* key) {
  const std::string text = o.string(key);
  if (unicode::length(text) != 1)
    throw Error(cat(o.origin(), ": ", key, ": expected one character, found \"", text, "\""));
  return text;
}

PreTokenizer metaspace(const JsonObject& o) {
  const std::string sign = one_character(o, "replacement");
  std::string scheme = o.string("prepend_scheme", "always");
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    throw Error(cat(o.origin(), ": prepend_scheme: expected always, first or never, found \"", scheme, "\""));
  }
  if (!o.boolean("add_prefix_space", true)) scheme = "never";
  const PreTokenizer replace = [sign, scheme](Words& words) {
    change_words(words, [&](const Words::Word& word, std::string& text) {
      for (const char c : word.text) {
        if (c == ' ') {
          text += sign;
        } else {
          text += c;
        }
      }
      const bool wanted = scheme == "always" || (scheme == "first" && word.first && words.begins);
      if (wanted && !(word.first && words.continues) && !text.starts_with(sign)) text.insert(0, sign);
      return true;
    });
  };
  if (!o.boolean("split", true)) return replace;
  return chained(replace, regex_splitter(Regex(regex_of_literal(sign), o.origin(), Regex::Syntax::pcre),
                                         SplitBehavior::merged_with_next, false));
}

PreTokenizer fixed_length(const JsonObject& o) {
  const int64_t length = o.integer("length", 1, 1 << 20, 5);
  return splitter(
      [length](std::string_view text) {
        std::vector<Span> spans;
        int64_t n = 0;
        for (size_t at = 0, from = 0; at < text.size();) {
          unicode::next(text, at);
          if (++n % length != 0 && at < text.size()) continue;
          spans.push_back({from, at, false});
          from = at;
        }
        return spans;
      },
      SplitBehavior::isolated);
}

PreTokenizer read(const json& value, const std::string& origin, ByteLevel& bytes, bool last);

PreTokenizer sequence(const JsonObject& o, ByteLevel& bytes, bool last) {
  const json& list = o.json().value("pretokenizers", json::array());
  if (!list.is_array()) throw Error(o.origin() + ": pretokenizers: expected a list, found " + shown(list));
  std::vector<PreTokenizer> steps;
  for (size_t i = 0; i < list.size(); ++i) {
    steps.push_back(
        read(list[i], cat(o.origin(), ".pretokenizers[", i, "]"), bytes, last && i + 1 == list.size()));
  }
  return [steps](Words& words) {
    for (const PreTokenizer& step : steps) step(words);
  };
}

PreTokenizer read(const json& value, const std::string& origin, ByteLevel& bytes, bool last) {
  const JsonObject o(value, origin);
  const std::string type = o.string("type");
  if (type == "Sequence") return sequence(o, bytes, last);
  if (type == "ByteLevel") return byte_level(o, bytes, last);
  if (type == "Metaspace") return metaspace(o);
  if (type == "FixedLength") return fixed_length(o);
  if (type == "Split")
    return regex_splitter(read_pattern(o), read_behavior(o, nullptr), o.boolean("invert", false));
  if (type == "Whitespace") return splitter(runs_of_words, SplitBehavior::removed);
  if (type == "WhitespaceSplit") return character_splitter(unicode::is_space, SplitBehavior::removed);
  if (type == "BertPreTokenizer") {
    return chained(character_splitter(unicode::is_space, SplitBehavior::removed),
                   character_splitter(unicode::is_punctuation, SplitBehavior::isolated));
  }
  if (type == "Punctuation") return character_splitter(unicode::is_punctuation, read_behavior(o, "Isolated"));
  if (type == "Digits") {
    return character_splitter(unicode::is_numeric, o.boolean("individual_digits", false)
                                                       ? SplitBehavior::isolated
                                                       : SplitBehavior::contiguous);
  }
  if (type == "CharDelimiterSplit") {
    const std::string delimiter = one_character(o, "delimiter");
    return regex_splitter(Regex(regex_of_literal(delimiter), origin, Regex::Syntax::pcre),
                          SplitBehavior::removed, false);
  }
  throw Error(cat(origin, ": a pre-tokenizer of type \"", type, "\" is not supported"));
}
}  // namespace

PreTokenizer read_pre_tokenizer(const json& value, const std::string& origin, ByteLevel& bytes) {
  if (value.is_null()) return {};
  return read(value, origin, bytes, true);
}

}  // namespace llmtool
