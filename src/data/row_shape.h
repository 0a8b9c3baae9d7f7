#pragma once
// What a row says, whatever the shape in which it says it.

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "llmtool/data/example_config.h"
#include "llmtool/data/prompt_template.h"

namespace llmtool {

struct Sample {
  enum class Kind { text, pair, chat };
  Kind kind = Kind::text;
  std::string prompt, completion;  // a text is a completion without a prompt
  nlohmann::ordered_json context;  // of a chat: messages, tools and what else its template shall see
  size_t prompt_messages = 0;      // those of the prompt, where the row tells prompt and completion apart
  std::optional<std::string> label;
};

/// Recognises rows by their columns:
/// - {text};
/// - {prompt, completion}, texts or lists of messages;
/// - {instruction, output} and perhaps input, system, history (Stanford Alpaca): a conversation where there
///   is a chat template, else the text that the format was published with;
/// - {messages} (role, content, tool_calls) or {conversations} (from, value), with tools;
/// - whatever the prompt template or the fields of the config name.
class RowShapes {
 public:
  RowShapes(const ExampleConfig& config, bool has_chat_template);
  /// Throws Error, opening with `origin`, on a row of no known shape.
  Sample read(const nlohmann::ordered_json& row, const std::string& origin) const;

 private:
  using Json = nlohmann::ordered_json;
  struct Columns;
  Sample of_messages(const Columns& columns, const Json& messages) const;
  Sample of_pair(const Columns& columns) const;
  Sample of_alpaca(const Columns& columns) const;
  Sample of_label_text(const Columns& columns) const;
  Sample of_template(const Columns& columns) const;
  Sample of_label(const Columns& columns) const;
  std::string label_of(const Columns& columns) const;

  const ExampleConfig& config_;
  PromptTemplate prompt_;
  bool has_chat_template_;
};

}  // namespace llmtool
