#pragma once
// The canonical text of a JSON text: canonical_text() of what it says, but with numbers of any size.

#include <string>
#include <string_view>

namespace llmtool {

/// `text` is one well-formed JSON value.
std::string canonical_json(std::string_view text);

}  // namespace llmtool
