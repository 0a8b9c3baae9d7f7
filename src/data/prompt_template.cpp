#include "llmtool/data/prompt_template.h"

#include "llmtool/core/error.h"
#include "llmtool/io/json.h"

namespace llmtool {

PromptTemplate::PromptTemplate(const std::string& source, const std::string& origin) {
  std::string text;
  for (size_t i = 0; i < source.size(); ++i) {
    const char c = source[i];
    if (c != '{' && c != '}') {
      text += c;
    } else if (i + 1 < source.size() && source[i + 1] == c) {
      text += c;
      ++i;
    } else {
      const size_t end = c == '{' ? source.find_first_of("{}", i + 1) : std::string::npos;
      if (end == std::string::npos || source[end] == '{' || end == i + 1)
        throw UsageError(
            cat(origin, ": character ", i + 1, ": expected {column}; a brace itself is written twice"));
      if (!text.empty()) parts_.push_back({std::move(text), false});
      text.clear();
      parts_.push_back({source.substr(i + 1, end - i - 1), true});
      i = end;
    }
  }
  if (!text.empty()) parts_.push_back({std::move(text), false});
}

std::string PromptTemplate::fill(const nlohmann::ordered_json& row, const std::string& origin) const {
  std::string filled;
  for (const Part& part : parts_) {
    if (!part.slot) {
      filled += part.text;
      continue;
    }
    const auto column = row.find(part.text);
    if (column == row.end())
      throw Error(cat(origin, ": the prompt template's {", part.text,
                      "} is no column of this row, which has ", columns_of(row)));
    filled += text_of(*column, part.text, origin);
  }
  return filled;
}

std::string text_of(const nlohmann::ordered_json& value, const std::string& column,
                    const std::string& origin) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_null()) return "";
  if (value.is_structured())
    throw Error(
        cat(origin, ": ", column, ": expected a text or a number, found ", shown(nlohmann::json(value))));
  return value.dump();
}

std::string columns_of(const nlohmann::ordered_json& row) {
  std::string names;
  for (const auto& [name, value] : row.items())
    names += cat(names.empty() ? "" : ", ", name, value.is_null() ? " (null)" : "");
  return names.empty() ? "no column" : names;
}

}  // namespace llmtool
