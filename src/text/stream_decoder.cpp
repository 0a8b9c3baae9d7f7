#include "llmtool/text/tokenizer.h"
#include "text/utf8.h"

namespace llmtool {

std::string StreamDecoder::take_characters(bool last) {
  std::string text;
  size_t at = 0;
  while (at < bytes_.size()) {
    bool incomplete = false;
    const int n = utf8_length(std::string_view(bytes_).substr(at), &incomplete);
    if (n == 0 && incomplete && !last) break;
    text += n > 0 ? std::string_view(bytes_).substr(at, static_cast<size_t>(n)) : kReplacement;
    at += n > 0 ? static_cast<size_t>(n) : 1;
  }
  bytes_.erase(0, at);
  return text;
}

std::string StreamDecoder::push(TokenId id) {
  if (id >= tokenizer_->vocab_size()) return take_characters(true);
  std::string text;
  if (tokenizer_->is_byte(id)) {
    bytes_ += tokenizer_->surface(id, at_start_);
    text = take_characters(false);
  } else {
    text = take_characters(true);
    text += tokenizer_->surface(id, at_start_ && text.empty());
  }
  // A piece that is nothing but the space in front of a text ends its start, too.
  at_start_ = at_start_ && text.empty() && bytes_.empty() && tokenizer_->is_special(id);
  return text;
}

std::string StreamDecoder::finish() { return take_characters(true); }

std::string Tokenizer::decode(std::span<const TokenId> ids) const {
  for (const TokenId id : ids) piece(id);  // throws where there is none
  StreamDecoder decoder(*this);
  std::string text;
  for (const TokenId id : ids) text += decoder.push(id);
  return text + decoder.finish();
}

}  // namespace llmtool
