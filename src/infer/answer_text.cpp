#include <algorithm>

#include "llmtool/infer/generator.h"

namespace llmtool {

AnswerText::AnswerText(const Tokenizer* tokenizer, const std::vector<std::string>& stops, bool continues)
    : stops_(stops) {
  if (tokenizer) decoder_.emplace(*tokenizer, !continues);
}

std::string AnswerText::push(TokenId id) { return decoder_ ? release(decoder_->push(id), false) : ""; }

std::string AnswerText::finish() {
  if (stopped_ || !decoder_) return "";
  return release(decoder_->finish(), true);
}

std::string AnswerText::release(std::string fresh, bool last) {
  held_ += fresh;
  size_t end = held_.size();
  for (const std::string& stop : stops_) {
    if (const size_t at = held_.find(stop); at != std::string::npos && at <= end) {
      stopped_ = true;
      end = at;
    }
  }
  if (!stopped_ && !last) {
    // The longest end of the text that begins a stop string stays back.
    for (const std::string& stop : stops_) {
      for (size_t n = std::min(stop.size() - 1, held_.size()); n > 0; --n) {
        if (held_.compare(held_.size() - n, n, stop, 0, n) == 0) {
          end = std::min(end, held_.size() - n);
          break;
        }
      }
    }
  }
  std::string out = held_.substr(0, end);
  held_.erase(0, end);
  text_ += out;
  return out;
}

}  // namespace llmtool
