#pragma once
// PromptTemplate: a text with slots that a row's columns fill.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace llmtool {

class PromptTemplate {
 public:
  /// `source`: "{column}" is a slot, "{{" and "}}" are braces. Throws UsageError on a brace without its
  /// other; `origin` opens the message.
  explicit PromptTemplate(const std::string& source, const std::string& origin = "data.prompt_template");

  bool empty() const { return parts_.empty(); }
  /// Throws Error, opening with `origin`, on a column that the row does not have.
  std::string fill(const nlohmann::ordered_json& row, const std::string& origin) const;

 private:
  struct Part {
    std::string text;  // or the column
    bool slot = false;
  };
  std::vector<Part> parts_;
};

/// A string as it is, numbers, true and false as JSON writes them, null as nothing; Error on lists and
/// objects.
std::string text_of(const nlohmann::ordered_json& value, const std::string& column,
                    const std::string& origin);
/// "instruction, output": the row's columns, for messages.
std::string columns_of(const nlohmann::ordered_json& row);

}  // namespace llmtool
