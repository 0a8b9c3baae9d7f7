#pragma once

namespace llmtool {

const char* version();  // "0.1.0"

}  // namespace llmtool
