#include "llmtool/data/corpus.h"

#include <algorithm>

#include "data/byte_source.h"
#include "data/input_files.h"
#include "data/line_source.h"
#include "llmtool/core/error.h"
#include "llmtool/io/json.h"
#include "text/utf8.h"

namespace llmtool {

namespace {
constexpr size_t kPiece = size_t{64} << 10;   // a piece is cut as soon as it can be beyond this
constexpr size_t kLongest = size_t{1} << 20;  // and by force here
constexpr size_t kPieceOfWords =
    size_t{16} << 20;  // as long as documents mostly are: cutting is not for every tokenizer
constexpr size_t kLongestWord = size_t{64} << 20;  // or here, where only words may be cut apart

bool is_jsonl(const std::string& path) {
  const std::string name = unpacked_name(path);
  return name.ends_with(".jsonl") || name.ends_with(".ndjson");
}

bool is_text(const std::string& path) { return is_jsonl(path) || unpacked_name(path).ends_with(".txt"); }

/// Appends `bytes` to `text` as valid UTF-8 without NUL; returns how many of them were used: the rest is the
/// start of a character, unless `last`.
size_t append_clean(std::string_view bytes, bool last, const CorpusOptions& options, std::string& text,
                    CorpusCounts& counts) {
  size_t at = 0;
  while (at < bytes.size()) {
    bool incomplete = false;
    const int n = utf8_length(bytes.substr(at), &incomplete);
    if (n == 0 && incomplete && !last) break;
    if (n == 0) {
      text += kReplacement;
      ++counts.invalid_bytes;
    } else if (bytes[at] == '\0' && !options.words_only) {
      ++counts.nul_bytes;
    } else {
      text.append(bytes, at, static_cast<size_t>(n));
    }
    at += static_cast<size_t>(std::max(1, n));
  }
  return at;
}

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

size_t character_before_end(std::string_view text) {
  size_t end = text.size() - 1;
  while (end > 1 && (static_cast<uint8_t>(text[end]) & 0xC0) == 0x80) --end;
  return end;
}

/// Where to cut `text`, 0 for nowhere yet.
size_t cut_at(std::string_view text, bool words_only) {
  if (text.size() < (words_only ? kPieceOfWords : kPiece)) return 0;
  if (words_only) {
    // No pre-tokenizer joins two words, but many look at what stands around line breaks.
    for (size_t i = text.size() - 2; i > kPiece; --i) {
      if (text[i] == ' ' && is_letter(text[i - 1]) && is_letter(text[i + 1])) return i;
    }
    return text.size() < kLongestWord ? 0 : character_before_end(text);
  }
  if (const size_t newline = text.rfind('\n'); newline != std::string_view::npos) return newline + 1;
  // Before a space that follows something else: no piece of a vocabulary reaches across that.
  for (size_t i = text.size() - 1; i > 0; --i) {
    if (text[i] == ' ' && text[i - 1] != ' ') return i;
  }
  return text.size() < kLongest ? 0 : character_before_end(text);
}

using Sink = std::function<void(CorpusPiece&&)>;

/// Cuts one document into pieces.
class Document {
 public:
  Document(const CorpusOptions& options, const Sink& sink, CorpusCounts& counts)
      : words_only_(options.words_only), sink_(sink), counts_(counts) {}
  std::string& text() { return text_; }
  /// Hands out what can be cut off.
  void flush() {
    if (const size_t end = cut_at(text_, words_only_)) {
      std::string rest = text_.substr(end);
      text_.resize(end);
      give(false);
      text_ = std::move(rest);
    }
  }
  void finish() {
    ++counts_.documents;
    give(true);
  }

 private:
  void give(bool last) {
    counts_.bytes += static_cast<int64_t>(text_.size());
    counts_.characters +=
        std::count_if(text_.begin(), text_.end(), [](char c) { return (c & 0xC0) != 0x80; });
    sink_({std::move(text_), first_, last});
    text_.clear();
    first_ = false;
  }
  bool words_only_;
  const Sink& sink_;
  CorpusCounts& counts_;
  std::string text_;
  bool first_ = true;
};

void check_strict(const CorpusOptions& options, const CorpusCounts& counts, const std::string& where) {
  if (options.strict && counts.invalid_bytes + counts.nul_bytes > 0) {
    throw Error(
        cat(where, ": ", counts.nul_bytes ? "a NUL byte" : "a byte that is not UTF-8", " (--strict)"));
  }
}

void read_text(const CorpusOptions& options, const std::string& path, CorpusCounts& counts,
               const Sink& sink) {
  const auto source = open_bytes(path);
  Document document(options, sink, counts);
  std::string raw;
  size_t kept = 0;
  for (bool last = false; !last;) {
    raw.resize(kept + kPiece);
    const size_t n = source->read(raw.data() + kept, kPiece);
    last = n == 0;
    raw.resize(kept + n);
    const size_t used = append_clean(raw, last, options, document.text(), counts);
    raw.erase(0, used);
    kept = raw.size();
    check_strict(options, counts, path);
    document.flush();
  }
  document.finish();
}

void read_row(const CorpusOptions& options, std::string_view line, const std::string& where,
              CorpusCounts& counts, const Sink& sink) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (line.find_first_not_of(" \t") == std::string_view::npos) return;
  const int64_t invalid_before = counts.invalid_bytes;
  std::string clean;
  append_clean(line, true, options, clean, counts);
  check_strict(options, counts, where);
  if (counts.invalid_bytes == invalid_before) clean = line;  // the parser says what a NUL means there
  const nlohmann::json row = parse_json(clean, where);
  const std::string text = JsonObject(row, where).string(options.field.c_str());
  Document document(options, sink, counts);
  // Long rows go out in pieces, too; "\u0000" is NUL again.
  for (size_t from = 0; from < text.size();) {
    const std::string_view part = std::string_view(text).substr(from, kPiece);
    from += append_clean(part, from + part.size() == text.size(), options, document.text(), counts);
    document.flush();
  }
  check_strict(options, counts, where);
  document.finish();
}

void read_rows(const CorpusOptions& options, const std::string& path, CorpusCounts& counts,
               const Sink& sink) {
  const auto source = open_bytes(path);
  LineSource lines(*source, path);
  int64_t number = 0;
  for (std::string line; lines.next(line);)
    read_row(options, line, cat(path, ": row ", ++number), counts, sink);
}
}  // namespace

std::string CorpusCounts::repairs() const {
  std::string text;
  const auto add = [&](int64_t n, const char* what) {
    if (n) text += cat(text.empty() ? "" : ", ", n, what);
  };
  add(invalid_bytes, " bytes that are not UTF-8 replaced by U+FFFD");
  add(nul_bytes, " NUL bytes left out");
  add(skipped_files, " files of other kinds skipped");
  return text;
}

std::vector<std::string> list_inputs(const CorpusOptions& options, CorpusCounts& counts) {
  return list_files(options.inputs, is_text, ".txt or .jsonl", counts.skipped_files);
}

CorpusCounts read_corpus(const CorpusOptions& options, const Sink& sink) {
  CorpusCounts counts;
  for (const std::string& file : list_inputs(options, counts)) {
    ++counts.files;
    if (options.format == "jsonl" || (options.format == "auto" && is_jsonl(file))) {
      read_rows(options, file, counts, sink);
    } else {
      read_text(options, file, counts, sink);
    }
  }
  return counts;
}

CorpusCounts encode_corpus(ThreadPool& pool, const Tokenizer& tokenizer, const CorpusOptions& options,
                           const std::function<void(std::vector<TokenId>&& ids, bool document_ends)>& sink) {
  const size_t batch_bytes = tokenizer.cuts_at_words() ? 4 * kPieceOfWords : size_t{8} << 20;
  std::vector<CorpusPiece> batch;
  size_t bytes = 0;
  const auto encode_batch = [&] {
    std::vector<std::vector<TokenId>> ids(batch.size());
    pool.run(static_cast<int64_t>(batch.size()), [&](int64_t i, int) {
      const CorpusPiece& piece = batch[static_cast<size_t>(i)];
      ids[static_cast<size_t>(i)] =
          tokenizer.encode(piece.text, {.add_special_tokens = options.encoding.add_special_tokens,
                                        .parse_special = options.encoding.parse_special,
                                        .continues = !piece.first,
                                        .unfinished = !piece.last});
    });
    for (size_t i = 0; i < batch.size(); ++i) sink(std::move(ids[i]), batch[i].last);
    batch.clear();
    bytes = 0;
  };
  CorpusOptions cut = options;
  cut.words_only = tokenizer.cuts_at_words();
  const CorpusCounts counts = read_corpus(cut, [&](CorpusPiece&& piece) {
    bytes += piece.text.size();
    batch.push_back(std::move(piece));
    if (bytes >= batch_bytes || batch.size() >= 4096) encode_batch();
  });
  encode_batch();
  return counts;
}

}  // namespace llmtool
