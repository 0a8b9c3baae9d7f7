#include "grammar/canonical_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "grammar/decimal.h"

namespace llmtool {
namespace {

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  std::string value() {
    skip_space();
    const char c = text_[at_];
    if (c == '"') return string();
    if (c == '[' || c == '{') return container(c == '{');
    const size_t end = std::min(text_.find_first_of(" \t\n\r,]}", at_), text_.size());
    const std::string_view token = text_.substr(at_, end - at_);
    at_ = end;
    return c == 't' || c == 'f' || c == 'n' ? std::string(token) : Decimal(token).text();
  }

 private:
  void skip_space() { at_ = std::min(text_.find_first_not_of(" \t\n\r", at_), text_.size()); }

  std::string string() {
    const size_t begin = at_++;
    while (text_[at_] != '"') at_ += text_[at_] == '\\' ? 2 : 1;
    ++at_;
    return nlohmann::json::parse(text_.substr(begin, at_ - begin)).dump();
  }

  std::string container(bool object) {
    const char end = object ? '}' : ']';
    std::vector<std::string> parts;
    ++at_;
    for (skip_space(); text_[at_] != end; skip_space()) {
      if (text_[at_] == ',') ++at_;
      std::string part;
      if (object) {
        skip_space();
        part = string() + ':';
        skip_space();
        ++at_;
      }
      parts.push_back(part + value());
    }
    ++at_;
    if (object) std::sort(parts.begin(), parts.end());
    std::string result(1, object ? '{' : '[');
    for (const std::string& part : parts) {
      if (result.size() > 1) result += ',';
      result += part;
    }
    return result += end;
  }

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

std::string canonical_json(std::string_view text) { return Reader(text).value(); }

}  // namespace llmtool
