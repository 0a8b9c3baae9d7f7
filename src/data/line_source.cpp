#include "data/line_source.h"

#include "llmtool/core/error.h"

namespace llmtool {

namespace {
constexpr size_t kBlock = size_t{1} << 20;
constexpr size_t kLongestLine = size_t{1} << 30;
constexpr std::string_view kMark = "\xEF\xBB\xBF";  // U+FEFF
}  // namespace

bool LineSource::next(std::string& line) {
  size_t end, searched = from_;
  while ((end = buffer_.find('\n', searched)) == std::string::npos && !ended_) {
    buffer_.erase(0, from_);
    from_ = 0;
    searched = buffer_.size();
    if (searched > kLongestLine)
      throw Error(cat(origin_, ": row ", lines_ + 1, ": longer than ", kLongestLine, " bytes"));
    buffer_.resize(searched + kBlock);
    const size_t n = source_.read(buffer_.data() + searched, kBlock);
    buffer_.resize(searched + n);
    ended_ = n == 0;
  }
  if (end == std::string::npos && from_ == buffer_.size()) return false;
  end = std::min(end, buffer_.size());
  line.assign(buffer_, from_, end - from_);
  from_ = std::min(end + 1, buffer_.size());
  if (lines_++ == 0 && line.starts_with(kMark)) line.erase(0, kMark.size());
  return true;
}

std::string read_all(ByteSource& source, const std::string& origin, size_t most) {
  std::string text;
  for (size_t n = 1; n != 0;) {
    const size_t before = text.size();
    text.resize(before + kBlock);
    n = source.read(text.data() + before, kBlock);
    text.resize(before + n);
    if (text.size() > most) throw Error(cat(origin, ": expected at most ", most, " bytes, found more"));
  }
  if (text.starts_with(kMark)) text.erase(0, kMark.size());
  return text;
}

}  // namespace llmtool
