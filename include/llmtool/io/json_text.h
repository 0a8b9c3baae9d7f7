#pragma once
// JSON written out.

#include <nlohmann/json.hpp>
#include <string>

namespace llmtool {

/// The value on one line, without a line break; bytes that are no UTF-8 become U+FFFD.
std::string json_line(const nlohmann::ordered_json& value);
/// A string as it is, null as nothing, anything else as json_line.
std::string plain_text(const nlohmann::ordered_json& value);

}  // namespace llmtool
