#pragma once
// Base64 (RFC 4648, section 4).

#include <string>
#include <string_view>

namespace llmtool {

/// The bytes that `text` stands for. Throws Error, opening with `origin`, where it is no base64.
std::string base64_decoded(std::string_view text, const std::string& origin);

}  // namespace llmtool
