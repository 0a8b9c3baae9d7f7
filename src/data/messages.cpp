#include "data/messages.h"

#include <cctype>

#include "llmtool/core/error.h"
#include "llmtool/io/json.h"

namespace llmtool {

namespace {
using Json = nlohmann::ordered_json;

Json list_of(const Json& value, const char* what, const std::string& origin) {
  const Json list = value.is_string() ? parse_ordered_json(value.get<std::string>(), origin) : value;
  if (!list.is_array())
    throw Error(cat(origin, ": expected a list of ", what, ", found ", shown(nlohmann::json(list))));
  return list;
}

/// "function_call": {"name": ..., "arguments": ...}, or a list of them, as JSON in a string.
Json call_of(const std::string& text, const std::string& origin) {
  const Json parsed = parse_ordered_json(text, origin + ": function_call");
  const Json calls = parsed.is_array() ? parsed : Json::array({parsed});
  Json made = Json::array();
  for (const Json& call : calls) {
    if (!call.is_object() || !call.contains("name"))
      throw Error(cat(origin, ": function_call: expected an object with name and arguments, found ",
                      shown(nlohmann::json(call))));
    made.push_back(Json{{"type", "function"}, {"function", call}});
  }
  return Json{{"role", "assistant"}, {"content", ""}, {"tool_calls", made}};
}

Json message_of(const Json& given, const std::string& origin) {
  if (!given.is_object())
    throw Error(cat(origin, ": expected a message, found ", shown(nlohmann::json(given))));
  const bool sharegpt = given.contains("from") && given.contains("value");
  const char* key = sharegpt ? "from" : "role";
  if (!given.contains(key) || !given[key].is_string())
    throw Error(cat(origin, ": expected a message with role and content (or from and value), found ",
                    shown(nlohmann::json(given))));
  if (!sharegpt) return given;
  const auto role = given["from"].get<std::string>();
  if (role == "function_call" && given["value"].is_string())
    return call_of(given["value"].get<std::string>(), origin);
  static const std::pair<const char*, const char*> kRoles[] = {
      {"human", "user"}, {"gpt", "assistant"}, {"observation", "tool"}};
  std::string lowered = role;  // "Human" and "GPT" are the same
  for (char& c : lowered) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  Json made = {{"role", role}, {"content", given["value"]}};
  for (const auto& [theirs, ours] : kRoles) {
    if (lowered == theirs) made["role"] = ours;
  }
  for (const auto& [name, value] : given.items()) {
    if (name != "from" && name != "value") made[name] = value;
  }
  return made;
}
}  // namespace

Json messages_of(const Json& value, const std::string& origin) {
  Json made = Json::array();
  const Json list = list_of(value, "messages", origin);
  for (size_t i = 0; i < list.size(); ++i)
    made.push_back(message_of(list[i], cat(origin, ": message ", i + 1)));
  return made;
}

Json tools_of(const Json& value, const std::string& origin) {
  if (value == "") return nullptr;
  return list_of(value, "tools", origin);
}

}  // namespace llmtool
