#include "text/normalizer.h"

#include <memory>

#include "llmtool/core/error.h"
#include "llmtool/io/base64.h"
#include "llmtool/io/json.h"
#include "text/byte_level.h"
#include "text/character_map.h"
#include "llmtool/text/regex.h"
#include "text/split.h"
#include "text/unicode.h"

namespace llmtool {

namespace {
using nlohmann::json;

/// Each character c of the text becomes what change(c, out) appends.
template <class Change>
void by_character(NormalizedText& t, Change change) {
  std::string out;
  out.reserve(t.text.size());
  for (size_t at = 0; at < t.text.size();) {
    change(unicode::next(t.text, at), out);
    if (out.empty()) t.begins = false;
  }
  t.text = std::move(out);
}
template <class Unwanted>
void remove(NormalizedText& t, Unwanted unwanted) {
  by_character(t, [&](char32_t c, std::string& out) {
    if (!unwanted(c)) unicode::append(out, c);
  });
}

/// A step that changes the text alone, whose beginning stays.
template <class Change>
Normalizer changed(Change change) {
  return [change](NormalizedText& t) { t.text = change(t.text); };
}

void strip(NormalizedText& t, bool left, bool right) {
  std::string& text = t.text;
  size_t begin = text.size(), end = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t from = at;
    if (unicode::is_space(unicode::next(text, at))) continue;
    begin = std::min(begin, from);
    end = at;
  }
  if (!right) end = text.size();
  if (!left) begin = 0;
  if (begin > 0) t.begins = false;
  text = begin < end ? text.substr(begin, end - begin) : "";
}

/// The rules of Google's translation system for blanks and control characters, as SentencePiece has them.
void nmt(NormalizedText& t) {
  by_character(t, [](char32_t c, std::string& out) {
    const bool dropped =
        (c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F;
    const bool blank = c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 ||
                       (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                       c == 0xFEFF || c == 0xFFFD;
    if (!dropped) unicode::append(out, blank ? ' ' : c);
  });
}

Normalizer bert(const JsonObject& o) {
  const bool clean = o.boolean("clean_text", true), chinese = o.boolean("handle_chinese_chars", true);
  const bool lower = o.boolean("lowercase", true), accents = o.boolean("strip_accents", lower);
  return [=](NormalizedText& t) {
    if (clean || chinese) {
      by_character(t, [&](char32_t c, std::string& out) {
        const bool kept = c == '\t' || c == '\n' || c == '\r';
        if (clean && (c == 0 || c == 0xFFFD || (!kept && unicode::is_control(c)))) return;
        if (clean && (kept || unicode::is_space(c))) c = ' ';
        const bool apart = chinese && unicode::is_cjk(c);
        if (apart) out += ' ';
        unicode::append(out, c);
        if (apart) out += ' ';
      });
    }
    if (accents) {
      t.text = unicode::normalized(t.text, unicode::Form::nfd);
      remove(t, unicode::is_nonspacing_mark);
    }
    if (lower) t.text = unicode::lowercase(t.text);
  };
}

Normalizer precompiled(const JsonObject& o) {
  const std::string where = o.origin() + ": precompiled_charsmap";
  const auto map =
      std::make_shared<const CharacterMap>(base64_decoded(o.string("precompiled_charsmap"), where), where);
  return [map](NormalizedText& t) {
    const std::string_view text = t.text;
    std::string out;
    const auto add_characters = [&](std::string_view cluster) {
      for (size_t at = 0; at < cluster.size();) {
        const size_t from = at;
        unicode::next(cluster, at);
        const std::string_view character = cluster.substr(from, at - from);
        out += map->find(character).value_or(character);
        if (out.empty()) t.begins = false;
      }
    };
    unicode::for_graphemes(text, [&](size_t begin, size_t end) {
      const std::string_view cluster = text.substr(begin, end - begin);
      const auto whole = cluster.size() < 6 ? map->find(cluster) : std::nullopt;
      if (whole) {
        out += *whole;
        if (out.empty()) t.begins = false;
      } else {
        add_characters(cluster);
      }
    });
    t.text = std::move(out);
  };
}

Normalizer replace(const JsonObject& o) {
  const std::string content = o.string("content");
  const auto pattern = std::make_shared<const Regex>(read_pattern(o));
  return [content, pattern, origin = o.origin()](NormalizedText& t) {
    std::string& text = t.text;
    if (text.empty()) return;
    const size_t most = (size_t{16} << 20) + 64 * text.size();
    std::string out;
    size_t done = 0;
    pattern->for_each(text, [&](size_t begin, size_t end) {
      out.append(text, done, begin - done);
      out += content;
      done = end;
      if (out.empty() && done > 0) t.begins = false;
      if (out.size() > most)
        throw Error(cat(origin, ": a text of ", text.size(), " bytes becomes more than ", most));
    });
    if (done == 0 && out.empty()) return;
    text = out.append(text, done);
  };
}

Normalizer form(unicode::Form which) {
  return changed([which](const std::string& text) { return unicode::normalized(text, which); });
}

Normalizer sequence(const JsonObject& o, bool& bytes) {
  const json& list = o.json().value("normalizers", json::array());
  if (!list.is_array()) throw Error(o.origin() + ": normalizers: expected a list, found " + shown(list));
  std::vector<Normalizer> steps;
  for (size_t i = 0; i < list.size(); ++i)
    steps.push_back(read_normalizer(list[i], cat(o.origin(), ".normalizers[", i, "]"), bytes));
  return [steps](NormalizedText& t) {
    for (const Normalizer& step : steps) step(t);
  };
}
}  // namespace

Normalizer read_normalizer(const json& value, const std::string& origin, bool& bytes) {
  if (value.is_null()) return {};
  const JsonObject o(value, origin);
  const std::string type = o.string("type");
  if (type == "Sequence") return sequence(o, bytes);
  if (type == "NFC") return form(unicode::Form::nfc);
  if (type == "NFD") return form(unicode::Form::nfd);
  if (type == "NFKC") return form(unicode::Form::nfkc);
  if (type == "NFKD") return form(unicode::Form::nfkd);
  if (type == "BertNormalizer") return bert(o);
  if (type == "Precompiled") return precompiled(o);
  if (type == "Replace") return replace(o);
  if (type == "Lowercase") return changed(unicode::lowercase);
  if (type == "StripAccents") return [](NormalizedText& t) { remove(t, unicode::is_mark); };
  if (type == "Nmt") return nmt;
  if (type == "Strip") {
    const bool left = o.boolean("strip_left", true), right = o.boolean("strip_right", true);
    return [=](NormalizedText& t) { strip(t, left, right); };
  }
  if (type == "Prepend") {
    return [front = o.string("prepend")](NormalizedText& t) {
      if (!t.text.empty() && !t.continues) t.text.insert(0, front);
    };
  }
  if (type == "ByteLevel") {
    if (bytes) throw Error(origin + ": bytes become characters twice");
    bytes = true;
    return changed(characters_of_bytes);
  }
  throw Error(cat(origin, ": a normalizer of type \"", type, "\" is not supported"));
}

}  // namespace llmtool
