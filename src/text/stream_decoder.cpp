#include <utility>

#include "llmtool/text/tokenizer.h"
#include "text/utf8.h"

namespace llmtool {

std::string StreamDecoder::take_characters(bool last) {
  const Tokenizer::Repair repair = tokenizer_->repair();
  std::string text;
  if (repair == Tokenizer::Repair::byte_run) {
    if (!last) return "";
    if (utf8_valid_length(bytes_) == bytes_.size()) return std::exchange(bytes_, "");
    for (size_t i = 0; i < bytes_.size(); ++i) text += kReplacement;
    bytes_.clear();
    return text;
  }
  size_t at = 0;
  while (at < bytes_.size()) {
    const std::string_view rest = std::string_view(bytes_).substr(at);
    bool incomplete = false;
    const int n = utf8_length(rest, &incomplete);
    if (n == 0 && incomplete && !last) break;
    text += n > 0 ? rest.substr(0, static_cast<size_t>(n)) : kReplacement;
    at += n > 0                                      ? static_cast<size_t>(n)
          : repair == Tokenizer::Repair::subsequence ? utf8_broken_length(rest)
                                                     : 1;
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
