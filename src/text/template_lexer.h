#pragma once
// A template's text as tokens, with Jinja's rules for the white space around its tags.

#include <string>
#include <string_view>
#include <vector>

namespace llmtool::jinja {

enum class TokenKind : unsigned char {
  kData,
  kOutputBegin,
  kOutputEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};
struct Token {
  TokenKind kind = TokenKind::kEnd;
  int line = 1;
  std::string text;  // of a string: its value
};

/// With trim_blocks and lstrip_blocks, and without the last newline. Throws Fault after setting `line`.
std::vector<Token> tokenize(std::string_view source, int& line);

}  // namespace llmtool::jinja
