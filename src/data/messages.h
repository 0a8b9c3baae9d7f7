#pragma once
// Conversations, from the forms in which they are published, as chat templates read them.

#include <nlohmann/json.hpp>
#include <string>

namespace llmtool {

/// A list of {role, content, ...} or of {from, value}, or such a list as JSON in a string, as {role, content,
/// ...}: "human" and "gpt" are user and assistant, "function_call" is an assistant's call of a tool,
/// "observation" what the tool said. Throws Error opening with `origin`.
nlohmann::ordered_json messages_of(const nlohmann::ordered_json& value, const std::string& origin);
/// A list of tools, or one as JSON in a string. Throws Error opening with `origin`.
nlohmann::ordered_json tools_of(const nlohmann::ordered_json& value, const std::string& origin);

}  // namespace llmtool
