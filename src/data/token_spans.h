#pragma once
// Which tokens of an encoded text stand for which of its bytes.

#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "llmtool/text/tokenizer.h"

namespace llmtool {

using ByteSpans = std::vector<std::pair<size_t, size_t>>;  // first byte, one behind the last

/// For each of `ids`, which are `text` encoded with its special tokens and without others around it: 1 where
/// it has a byte of one of the spans, which are in order and do not overlap.
std::vector<uint8_t> covered_tokens(const Tokenizer& tokenizer, std::string_view text,
                                    std::span<const TokenId> ids, const ByteSpans& spans);

}  // namespace llmtool
