#include "llmtool/text/train_tokenizer.h"

#include <sentencepiece_trainer.h>

#include <nlohmann/json.hpp>
#include <unordered_map>

#include "llmtool/core/error.h"
#include "llmtool/core/rng.h"
#include "llmtool/io/files.h"
#include "llmtool/text/tokenizer.h"
#include "text/byte_bpe_trainer.h"
#include "text/sentencepiece_model.h"
#include "text/utf8.h"

namespace llmtool {

namespace {
constexpr size_t kMaxLine = 4096;  // bytes; longer ones are cut, at a space where there is one
constexpr std::string_view kReserved = "\xE2\x96\x85";  // U+2585 marks unknown characters during training

/// Cuts the corpus into what SentencePiece calls sentences.
class Sentences : public sentencepiece::SentenceIterator {
 public:
  Sentences(const TextSource& source, TokenizerTrainingResult& result) : source_(source), result_(result) {
    Next();
  }

  bool done() const override { return done_; }
  const std::string& value() const override { return value_; }
  bool saw_tab() const { return saw_tab_; }
  sentencepiece::util::Status status() const override { return {}; }

  void Next() override {
    while (true) {
      while (rest_.empty()) {
        if (!source_(rest_)) {
          done_ = true;
          return;
        }
      }
      const size_t end = next_end();
      value_.assign(rest_.substr(0, end));
      rest_.remove_prefix(end);
      drop_separator();
      if (value_.empty()) continue;
      ++result_.lines;
      return;
    }
  }

 private:
  /// Line breaks, tabs and the trainer's own mark never stand inside a sentence: it would drop the whole
  /// line.
  size_t next_end() {
    size_t end = std::min({rest_.find('\n'), rest_.find('\t'), rest_.find(kReserved), rest_.size()});
    if (end <= kMaxLine) return end;
    ++result_.split_lines;
    const size_t space = rest_.rfind(' ', kMaxLine);
    if (space != std::string_view::npos && space > 0) return space;
    end = kMaxLine;
    while ((static_cast<uint8_t>(rest_[end]) & 0xC0) == 0x80) --end;
    return end;
  }
  void drop_separator() {
    saw_tab_ = saw_tab_ || rest_.starts_with('\t');
    if (rest_.starts_with('\n') || rest_.starts_with('\t')) rest_.remove_prefix(1);
    if (rest_.starts_with(kReserved)) rest_.remove_prefix(kReserved.size());
  }

  const TextSource& source_;
  TokenizerTrainingResult& result_;
  std::string_view rest_;
  std::string value_;
  bool done_ = false, saw_tab_ = false;
};

/// So many of the sentences, each as likely as any other (Vitter 1985, algorithm R). libsentencepiece would
/// draw the same ones whatever the seed.
class Sample : public sentencepiece::SentenceIterator {
 public:
  Sample(Sentences& all, size_t most, Rng rng) {
    for (uint64_t seen = 0; !all.done(); all.Next()) {
      ++seen;
      if (lines_.size() < most) {
        lines_.push_back(all.value());
      } else if (const uint64_t place = rng.below(seen); place < most) {
        lines_[place] = all.value();
      }
    }
  }

  bool done() const override { return at_ == lines_.size(); }
  void Next() override { std::string().swap(lines_[at_++]); }
  const std::string& value() const override { return lines_[at_]; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  std::vector<std::string> lines_;
  size_t at_ = 0;
};

/// Pieces have U+2581 where the text has a space.
std::string with_space_signs(const std::string& text) {
  std::string signs;
  for (const char c : text) signs += c == ' ' ? "\xE2\x96\x81" : std::string(1, c);
  return signs;
}

/// A list in the comma-separated form that the trainer's flags take.
std::string comma_separated(const std::vector<std::string>& items) {
  std::string list;
  for (const std::string& item : items) {
    std::string quoted;
    for (const char c : item) quoted += c == '"' ? "\"\"" : std::string(1, c);
    list += (list.empty() ? "\"" : ",\"") + quoted + "\"";
  }
  return list;
}

void check(const TokenizerTraining& s) {
  const bool whole = s.model_type == "char" && s.vocab_size == 0;
  if (!whole && s.vocab_size < 8) {
    throw UsageError(
        cat("vocab_size: expected at least 8 (0, every character, for char only), found ", s.vocab_size));
  }
  if (s.vocab_size > int64_t{1} << 22)
    throw UsageError(cat("vocab_size: expected at most 4194304, found ", s.vocab_size));
  if (!(s.character_coverage > 0 && s.character_coverage <= 1)) {
    throw UsageError(
        cat("character_coverage: expected a number above 0 and at most 1, found ", s.character_coverage));
  }
  if (s.max_lines < 0) throw UsageError(cat("max_lines: expected at least 0, found ", s.max_lines));
  for (const std::string& symbol : s.user_symbols) {
    if (symbol.empty() || symbol.size() > 256) throw UsageError("user_symbols: expected 1 to 256 bytes each");
  }
}
}  // namespace

TokenizerTrainingResult train_tokenizer(const TokenizerTraining& s, const TextSource& source) {
  if (s.model_type == "byte-bpe") return train_byte_bpe(s, source);
  check(s);
  TokenizerTrainingResult result;
  const bool subwords = s.model_type == "unigram" || s.model_type == "bpe";
  const bool bytes = subwords && s.byte_fallback;
  std::vector<std::string> symbols = {"\n"};
  for (const std::string& symbol : s.user_symbols) symbols.push_back(with_space_signs(symbol));
  if (bytes && s.vocab_size < 256 + 2 + static_cast<int64_t>(symbols.size()) + 8) {
    throw UsageError(cat("vocab_size: expected at least ", 266 + symbols.size(),
                         " with byte_fallback (256 of them are "
                         "the bytes), found ",
                         s.vocab_size, "; take more or set byte_fallback to false"));
  }
  const bool all_characters = s.model_type == "char" && s.vocab_size == 0;
  const double coverage = s.model_type == "char" ? 1.0 : s.character_coverage;
  const std::unordered_map<std::string, std::string> flags = {
      {"model_type", s.model_type},
      {"vocab_size", std::to_string(all_characters ? 1 << 20 : s.vocab_size)},
      {"use_all_vocab", all_characters ? "true" : "false"},
      {"hard_vocab_limit", "false"},
      {"character_coverage", cat(coverage)},
      {"byte_fallback", bytes ? "true" : "false"},
      {"user_defined_symbols", comma_separated(symbols)},
      {"normalization_rule_name", "identity"},
      {"add_dummy_prefix", "false"},
      {"remove_extra_whitespaces", "false"},
      {"allow_whitespace_only_pieces", "true"},
      {"unk_id", "0"},
      {"bos_id", "-1"},
      {"eos_id", "1"},
      {"max_sentence_length", std::to_string(2 * kMaxLine)},
      {"input_sentence_size", "0"},
      {"num_threads",
       "16"},  // sums are cut into this many parts: fixed, as they decide the scores' last bits
      {"minloglevel", "2"}};
  Sentences sentences(source, result);
  if (sentences.done()) throw Error("[tokenizer] expected text to train on, found none");
  sentencepiece::util::Status status;
  if (s.max_lines > 0) {
    Sample sample(sentences, static_cast<size_t>(s.max_lines), Rng(s.seed));
    status = sentencepiece::SentencePieceTrainer::Train(flags, &sample, &result.model);
  } else {
    status = sentencepiece::SentencePieceTrainer::Train(flags, &sentences, &result.model);
  }
  if (!status.ok()) throw Error(cat("[tokenizer] ", status.message()));
  // A tab may not stand in a sentence, so it is never learnt: a piece {piece: "\t", type: user defined} more.
  if (sentences.saw_tab() && !bytes) result.model += std::string("\x0A\x05\x0A\x01\t\x18\x04", 7);
  result.vocab_size =
      static_cast<int64_t>(read_sentencepiece_model(result.model, "the new model").pieces.size());
  return result;
}

void save_trained_tokenizer(const TokenizerTraining& settings, const TokenizerTrainingResult& result,
                            const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  for (const char* stale : {"tokenizer.json", "tokenizer_config.json", "tokenizer.model"})
    std::filesystem::remove(folder / stale);
  if (settings.model_type != "byte-bpe") {
    write_file(folder / "tokenizer.model", result.model);
    return load_tokenizer(folder)->save(folder);
  }
  write_file(folder / "tokenizer.json", result.model);
  const nlohmann::ordered_json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                                         {"add_prefix_space", false},
                                         {"clean_up_tokenization_spaces", false},
                                         {"model_max_length", 1000000000},
                                         {"bos_token", "<|endoftext|>"},
                                         {"eos_token", "<|endoftext|>"},
                                         {"unk_token", "<|endoftext|>"}};
  write_file(folder / "tokenizer_config.json", config.dump(2) + "\n");
}

}  // namespace llmtool
