#include "text/byte_bpe_trainer.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "llmtool/core/error.h"
#include "text/byte_level.h"
#include "text/pair_merges.h"
#include "text/pre_tokenizer_names.h"
#include "llmtool/text/regex.h"
#include "text/utf8.h"
#include "text/word_counts.h"

namespace llmtool {

namespace {
using Json = nlohmann::ordered_json;
constexpr const char* kEndOfText = "<|endoftext|>";
constexpr size_t kLongLine = size_t{64} << 10;

/// Cuts the corpus into lines and counts their words.
class LineReader {
 public:
  LineReader(WordCounts& counts, int64_t& lines) : counts_(counts), lines_(lines) {}

  void take(std::string_view piece) {
    while (!piece.empty()) {
      const size_t end = std::min(piece.find('\n'), piece.size() - 1) + 1;
      const std::string_view part = piece.substr(0, end);
      piece.remove_prefix(end);
      if (!part.ends_with('\n')) {
        rest_ += part;
        if (rest_.size() >= kLongLine) count_ahead();
      } else if (rest_.empty()) {
        count(part);
        ++lines_;
      } else {
        rest_ += part;
        finish();
      }
    }
  }
  /// Ends a line that has no line break.
  void finish() {
    if (rest_.empty()) return;
    count(rest_);
    rest_.clear();
    searched_ = 0;
    ++lines_;
  }

 private:
  void count(std::string_view text) {
    size_t after = 0;
    words_.for_each(text, [&](size_t begin, size_t end) {
      if (begin > after) counts_.add(text.substr(after, begin - after));
      if (end > begin) counts_.add(text.substr(begin, end - begin));
      after = end;
    });
    if (after < text.size()) counts_.add(text.substr(after));
  }
  /// Counts what it can of a line whose end is not yet known: a word never reaches across the place before a
  /// space that follows a visible character of ASCII.
  void count_ahead() {
    const auto may_cut = [&](size_t at) {
      return rest_[at] == ' ' && rest_[at - 1] > 0x20 && rest_[at - 1] < 0x7F;
    };
    size_t cut = rest_.size() - 1;
    while (cut > searched_ && !may_cut(cut)) --cut;
    if (cut == searched_) {
      searched_ = rest_.size() - 1;
      return;
    }
    count(std::string_view(rest_).substr(0, cut));
    rest_.erase(0, cut);
    searched_ = 0;
  }

  const Regex words_{kGpt2Words, "[tokenizer]"};
  WordCounts& counts_;
  int64_t& lines_;
  std::string rest_;     // the start of a line whose end has not come
  size_t searched_ = 0;  // the last place of it that it cannot be cut at
};

/// Special tokens and user symbols, then the bytes by their signs.
BpeVocabulary first_tokens(const std::vector<std::string>& added) {
  BpeVocabulary vocabulary;
  vocabulary.tokens = added;
  std::vector<std::pair<std::string, uint8_t>> signs;
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    signs.emplace_back(characters_of_bytes({&c, 1}), static_cast<uint8_t>(byte));
  }
  std::sort(signs.begin(), signs.end());
  for (const auto& [sign, byte] : signs) {
    auto& tokens = vocabulary.tokens;
    const auto known = std::find(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(added.size()), sign);
    vocabulary.byte_ids[byte] = static_cast<uint32_t>(known - tokens.begin());
    if (known == tokens.begin() + static_cast<ptrdiff_t>(added.size())) {
      vocabulary.byte_ids[byte] = static_cast<uint32_t>(tokens.size());
      tokens.push_back(sign);
    }
  }
  return vocabulary;
}

/// <|endoftext|> and the user symbols, each once.
std::vector<std::string> added_tokens(const TokenizerTraining& s) {
  std::vector<std::string> tokens = {kEndOfText};
  for (const std::string& symbol : s.user_symbols) {
    if (std::find(tokens.begin(), tokens.end(), symbol) == tokens.end()) tokens.push_back(symbol);
  }
  return tokens;
}

Json byte_level(bool add_prefix_space, bool trim_offsets) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", add_prefix_space},
          {"trim_offsets", trim_offsets},
          {"use_regex", true}};
}

Json model_json(const BpeVocabulary& vocabulary) {
  Json vocab = Json::object(), merges = Json::array();
  // emplace_back, as the object's own insertion goes through all keys before.
  auto& places = vocab.get_ref<Json::object_t&>();
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) places.emplace_back(vocabulary.tokens[id], id);
  for (const auto& [left, right] : vocabulary.merges)
    merges.push_back({vocabulary.tokens[left], vocabulary.tokens[right]});
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", false},
          {"vocab", std::move(vocab)},
          {"merges", std::move(merges)}};
}

std::string tokenizer_json(const BpeVocabulary& vocabulary, const std::vector<std::string>& added) {
  Json list = Json::array();
  for (size_t id = 0; id < added.size(); ++id) {
    list.push_back({{"id", id},
                    {"content", added[id]},
                    {"single_word", false},
                    {"lstrip", false},
                    {"rstrip", false},
                    {"normalized", false},
                    {"special", id == 0}});
  }
  return Json{{"version", "1.0"},
              {"truncation", nullptr},
              {"padding", nullptr},
              {"added_tokens", std::move(list)},
              {"normalizer", nullptr},
              {"pre_tokenizer", byte_level(false, true)},
              {"post_processor", byte_level(true, false)},
              {"decoder", byte_level(true, true)},
              {"model", model_json(vocabulary)}}
      .dump(2);
}

/// Whether ByteLevel would decode the symbol to other bytes than its own.
bool is_read_as_bytes(const std::string& symbol) {
  const auto bytes = bytes_of_characters(symbol);
  return bytes && *bytes != symbol;
}

void check_symbol(const std::string& symbol) {
  if (symbol.empty() || symbol.size() > 256) throw UsageError("user_symbols: expected 1 to 256 bytes each");
  if (utf8_valid_length(symbol) < symbol.size())
    throw UsageError("user_symbols: expected UTF-8, found other bytes");
  if (is_read_as_bytes(symbol)) {
    throw UsageError(cat("user_symbols: expected symbols that come back from a byte-bpe tokenizer, found \"",
                         symbol,
                         "\", which tokenizer.json's readers take for the bytes that these letters are "
                         "signs of; add one of ASCII or with a space"));
  }
}

void check(const TokenizerTraining& s, size_t added) {
  const auto least = static_cast<int64_t>(256 + added);
  if (s.vocab_size < least) {
    throw UsageError(cat("vocab_size: expected at least ", least, " for byte-bpe (256 bytes and ", added,
                         added == 1 ? " special token" : " special tokens", "), found ", s.vocab_size));
  }
  if (s.vocab_size > int64_t{1} << 22)
    throw UsageError(cat("vocab_size: expected at most 4194304, found ", s.vocab_size));
  if (s.min_frequency < 0)
    throw UsageError(cat("min_frequency: expected at least 0, found ", s.min_frequency));
  for (const std::string& symbol : s.user_symbols) check_symbol(symbol);
}
}  // namespace

TokenizerTrainingResult train_byte_bpe(const TokenizerTraining& s, const TextSource& source) {
  const std::vector<std::string> added = added_tokens(s);
  check(s, added.size());
  TokenizerTrainingResult result;
  WordCounts words;
  {
    LineReader reader(words, result.lines);
    for (std::string_view piece; source(piece);) {
      if (piece.empty()) {
        reader.finish();
      } else {
        reader.take(piece);
      }
    }
    reader.finish();
  }
  if (words.size() == 0) throw Error("[tokenizer] expected text to train on, found none");
  BpeVocabulary vocabulary = first_tokens(added);
  learn_merges(words, static_cast<size_t>(s.vocab_size), s.min_frequency, vocabulary);
  result.model = tokenizer_json(vocabulary, added);
  result.vocab_size = static_cast<int64_t>(vocabulary.tokens.size());
  return result;
}

}  // namespace llmtool
