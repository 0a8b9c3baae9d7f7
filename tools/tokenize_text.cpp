#include "tokenize_text.h"

#include <cstdio>
#include <fstream>
#include <iostream>

#include "llmtool/core/error.h"
#include "llmtool/io/files.h"
#include "llmtool/io/json.h"

namespace llmtool {

namespace {
/// Prints documents as rows {"ids", "pieces"} while they are encoded. The ids wait in a temporary file for
/// their pieces' turn, so that memory does not grow with a document.
class RowPrinter {
 public:
  explicit RowPrinter(const Tokenizer& tokenizer) : tokenizer_(tokenizer), waiting_(std::tmpfile()) {
    if (!waiting_) throw Error("a temporary file cannot be made; is the disk full?");
  }
  ~RowPrinter() { std::fclose(waiting_); }
  RowPrinter(const RowPrinter&) = delete;
  RowPrinter& operator=(const RowPrinter&) = delete;

  void add(const std::vector<TokenId>& ids, bool ends) {
    std::string text = begun_ ? "" : "{\"ids\":[";
    for (const TokenId id : ids) {
      if (count_++ > 0) text += ',';
      text += std::to_string(id);
    }
    begun_ = true;
    std::cout << text;
    if (!ids.empty() && std::fwrite(ids.data(), sizeof(TokenId), ids.size(), waiting_) != ids.size())
      throw Error("a temporary file cannot be written; is the disk full?");
    if (ends) end();
  }

 private:
  void end() {
    std::cout << "],\"pieces\":[";
    std::rewind(waiting_);
    std::vector<TokenId> ids(1 << 14);
    for (int64_t left = count_; left > 0;) {
      const size_t n = std::min(ids.size(), static_cast<size_t>(left));
      if (std::fread(ids.data(), sizeof(TokenId), n, waiting_) != n)
        throw Error("a temporary file cannot be read back");
      std::string text = left == count_ ? "" : ",";
      for (size_t i = 0; i < n; ++i) {
        if (i > 0) text += ',';
        text += nlohmann::json(tokenizer_.piece(ids[i])).dump();
      }
      std::cout << text;
      left -= static_cast<int64_t>(n);
    }
    std::cout << "]}\n";
    std::rewind(waiting_);
    begun_ = false;
    count_ = 0;
  }

  const Tokenizer& tokenizer_;
  std::FILE* waiting_;
  int64_t count_ = 0;
  bool begun_ = false;
};
}  // namespace

CorpusCounts print_ids(ThreadPool& pool, const Tokenizer& tokenizer, const CorpusOptions& corpus, bool json) {
  RowPrinter rows(tokenizer);
  bool fresh = true;
  return encode_corpus(pool, tokenizer, corpus, [&](std::vector<TokenId>&& ids, bool ends) {
    if (json) return rows.add(ids, ends);
    std::string line;
    for (const TokenId id : ids) {
      if (!fresh) line += ' ';
      line += std::to_string(id);
      fresh = false;
    }
    if (ends) line += '\n';
    fresh = fresh || ends;
    std::cout << line;
  });
}

namespace {
/// Reads ids from text: blanks between them, a line for each text.
class IdLines {
 public:
  IdLines(const Tokenizer& tokenizer, bool json, std::string origin)
      : tokenizer_(tokenizer), decoder_(tokenizer), json_(json), origin_(std::move(origin)) {}

  void feed(std::string_view part) {
    for (const char c : part) {
      if (c >= '0' && c <= '9') {
        number_ = number_ * 10 + (c - '0');
        if (number_ > INT32_MAX) refuse("an id that is too large");
        in_number_ = true;
        continue;
      }
      end_number();
      if (c == '\n') {
        end_line();
      } else if (c != ' ' && c != '\t' && c != '\r') {
        refuse(cat("\"", c, "\" where ids belong"));
      }
    }
  }
  void finish() {
    end_number();
    if (open_) end_line();
  }
  /// Writes one text of known ids.
  void write(std::span<const TokenId> ids) {
    for (const TokenId id : ids) push(id);
    end_line();
  }

 private:
  void push(TokenId id) {
    tokenizer_.piece(id);  // throws where there is none
    if (!open_ && !json_ && texts_ > 0) std::cout << '\n';
    open_ = true;
    out(decoder_.push(id));
  }
  void end_number() {
    if (in_number_) push(static_cast<TokenId>(number_));
    in_number_ = false;
    number_ = 0;
  }
  void end_line() {
    if (!open_ && !json_ && texts_ > 0) std::cout << '\n';
    out(decoder_.finish());
    if (json_) std::cout << nlohmann::ordered_json{{"text", text_}}.dump() << "\n";
    text_.clear();
    decoder_ = StreamDecoder(tokenizer_);
    open_ = false;
    ++texts_;
  }
  void out(const std::string& text) {
    if (json_) {
      text_ += text;
    } else {
      std::cout << text;
    }
  }
  [[noreturn]] void refuse(const std::string& found) const {
    throw Error(cat(origin_, ": line ", texts_ + 1, ": expected ids, found ", found));
  }

  const Tokenizer& tokenizer_;
  StreamDecoder decoder_;
  bool json_;
  std::string origin_, text_;
  int64_t number_ = 0, texts_ = 0;
  bool in_number_ = false, open_ = false;
};

void print_rows(std::istream& in, const std::string& origin, IdLines& lines) {
  std::string line;
  for (int64_t row = 1; std::getline(in, line); ++row) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string where = cat(origin, ": row ", row);
    const nlohmann::json json = parse_json(line, where);
    const JsonObject object(json, where);
    if (!object.has("ids")) throw Error(where + ": ids: expected a list of integers, found nothing");
    const std::vector<int64_t> ids = object.integers("ids", 0, INT32_MAX);
    lines.write(std::vector<TokenId>(ids.begin(), ids.end()));
  }
}
}  // namespace

void print_text(const Tokenizer& tokenizer, const CorpusOptions& corpus, bool json) {
  std::vector<std::string> inputs = corpus.inputs;
  if (inputs.empty()) inputs = {"-"};
  for (const std::string& input : inputs) {
    std::ifstream file;
    if (input != "-") {
      file.open(input, std::ios::binary);
      if (!file) throw Error(input + ": cannot be opened");
    }
    std::istream& in = input == "-" ? std::cin : file;
    const std::string origin = input == "-" ? "standard input" : input;
    IdLines lines(tokenizer, json, origin);
    const bool looks_like_rows = corpus.format == "auto" && in.peek() == '{';
    if (corpus.format == "jsonl" || looks_like_rows) {
      print_rows(in, origin, lines);
      continue;
    }
    std::string buffer(1 << 16, '\0');
    while (in.read(buffer.data(), static_cast<std::streamsize>(buffer.size())), in.gcount() > 0) {
      lines.feed(std::string_view(buffer).substr(0, static_cast<size_t>(in.gcount())));
    }
    lines.finish();
  }
}

nlohmann::ordered_json inspect_tokenizer(ThreadPool& pool, const Tokenizer& tokenizer,
                                         const CorpusOptions& corpus) {
  nlohmann::ordered_json report = {
      {"type", tokenizer.kind()}, {"vocab_size", tokenizer.vocab_size()}, {"hash", hex(tokenizer.hash())}};
  nlohmann::ordered_json special = nlohmann::ordered_json::object();
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.is_special(id)) special[tokenizer.piece(id)] = id;
  }
  report["special_tokens"] = special;
  report["bos_id"] = tokenizer.bos_id();
  report["eos_id"] = tokenizer.eos_id();
  report["unk_id"] = tokenizer.unk_id();
  report["pad_id"] = tokenizer.pad_id();
  report["adds_bos"] = tokenizer.adds_bos();
  if (corpus.inputs.empty()) return report;
  int64_t tokens = 0, unknown = 0;
  const CorpusCounts counts = encode_corpus(pool, tokenizer, corpus, [&](std::vector<TokenId>&& ids, bool) {
    tokens += static_cast<int64_t>(ids.size());
    unknown += std::count(ids.begin(), ids.end(), tokenizer.unk_id());
  });
  const auto share = [&](int64_t n) {
    return tokens ? static_cast<double>(n) / static_cast<double>(tokens) : 0.0;
  };
  report["bytes"] = counts.bytes;
  report["characters"] = counts.characters;
  report["tokens"] = tokens;
  report["characters_per_token"] = share(counts.characters);
  report["bytes_per_token"] = share(counts.bytes);
  report["unknown_rate"] = share(unknown);
  return report;
}

}  // namespace llmtool
