#include "text/detokenizer.h"

#include "llmtool/core/error.h"
#include "llmtool/io/json.h"
#include "text/byte_level.h"
#include "text/split.h"
#include "text/unicode.h"

namespace llmtool {

namespace {
using nlohmann::json;

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
}

/// English punctuation as it is written.
void clean_up(std::string& text) {
  constexpr std::pair<const char*, const char*> kRules[] = {
      {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
      {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : kRules) replace_all(text, from, to);
}
}  // namespace

Detokenizer::Detokenizer(const json& value, const std::string& origin) {
  if (value.is_null()) {
    apart_ = true;
  } else {
    read(value, origin);
  }
}

void Detokenizer::read(const json& value, const std::string& origin) {
  const JsonObject o(value, origin);
  const std::string type = o.string("type");
  const auto refuse = [&](const std::string& what) {
    throw Error(cat(origin, ": ", what, " is not supported"));
  };
  if (byte_level_) refuse("a decoder behind ByteLevel");
  if (type == "Strip") return read_strip(value, origin);
  if (fused_) refuse(cat("\"", type, "\" behind Fuse"));
  if (type == "Sequence") {
    const json& list = o.json().value("decoders", json::array());
    if (!list.is_array()) throw Error(origin + ": decoders: expected a list, found " + shown(list));
    for (size_t i = 0; i < list.size(); ++i) read(list[i], cat(origin, ".decoders[", i, "]"));
  } else if (type == "ByteLevel") {
    byte_level_ = true;
  } else if (type == "ByteFallback") {
    byte_fallback_ = true;
  } else if (type == "Fuse") {
    fused_ = true;
  } else if (type == "Replace") {
    const auto pattern = std::make_shared<const Regex>(read_pattern(o));
    steps_.push_back([pattern, content = o.string("content")](std::string& token, bool) {
      std::string out;
      for (const Span& span : spans_of(*pattern, token))
        out += span.match ? content : token.substr(span.begin, span.end - span.begin);
      token = std::move(out);
    });
  } else if (type == "Metaspace") {
    const bool front = o.string("prepend_scheme", "always") != "never" && o.boolean("add_prefix_space", true);
    steps_.push_back([front, sign = o.string("replacement")](std::string& token, bool first) {
      replace_all(token, sign, first && front ? "" : " ");
    });
    if (unicode::length(o.string("replacement")) != 1) refuse("replacement: other than one character");
  } else if (type == "WordPiece") {
    const bool clean = o.boolean("cleanup", true);
    steps_.push_back([clean, prefix = o.string("prefix", "##")](std::string& token, bool first) {
      if (!first && token.starts_with(prefix)) {
        token.erase(0, prefix.size());
      } else if (!first) {
        token.insert(token.begin(), ' ');
      }
      if (clean) clean_up(token);
    });
  } else {
    refuse(cat("a decoder of type \"", type, "\""));
  }
}

void Detokenizer::read_strip(const json& value, const std::string& origin) {
  const JsonObject o(value, origin);
  const std::string sign = o.string("content");
  const int64_t start = o.integer("start", 0, 1 << 20), stop = o.integer("stop", 0, 1 << 20);
  if (unicode::length(sign) != 1) throw Error(origin + ": content: expected one character");
  if (start == 0 && stop == 0) return;
  if (fused_) {
    // More than one, or any at the end, would hang on tokens that are not there yet.
    if (start > 1 || stop > 0 || !stripped_.empty())
      throw Error(origin + ": Strip behind Fuse takes more than the first character, which is not supported");
    stripped_ = sign;
    return;
  }
  steps_.push_back([sign, start, stop](std::string& token, bool) {
    for (int64_t i = 0; i < start && token.starts_with(sign); ++i) token.erase(0, sign.size());
    for (int64_t i = 0; i < stop && token.ends_with(sign); ++i) token.resize(token.size() - sign.size());
  });
}

std::optional<char> Detokenizer::byte_of(std::string_view token) const {
  if (!byte_fallback_ || token.size() != 6 || !token.starts_with("<0x") || token[5] != '>')
    return std::nullopt;
  int value = 0;
  for (const char c : token.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) return std::nullopt;
    value = value * 16 + digit;
  }
  return static_cast<char>(value);
}

std::string Detokenizer::surface(std::string token, bool first) const {
  if (byte_level_) {
    auto bytes = bytes_of_characters(token);
    return bytes ? *bytes : token;
  }
  if (const auto byte = byte_of(token)) {
    token.assign(1, *byte);
  } else {
    for (const Step& step : steps_) step(token, first);
  }
  if (first && !stripped_.empty() && token.starts_with(stripped_)) token.erase(0, stripped_.size());
  if (apart_ && !first) token.insert(token.begin(), ' ');
  return token;
}

}  // namespace llmtool
