#include "llmtool/io/json_text.h"

namespace llmtool {

using Json = nlohmann::ordered_json;

std::string json_line(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string plain_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  return value.is_null() ? "" : json_line(value);
}

}  // namespace llmtool
