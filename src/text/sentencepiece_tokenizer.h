#pragma once
// A tokenizer from a SentencePiece model file.

#include <sentencepiece_processor.h>

#include <string>

#include "llmtool/text/tokenizer.h"
#include "text/added_tokens.h"
#include "text/sentencepiece_model.h"
#include "text/tokenizer_settings.h"

namespace llmtool {

/// Tokens that stand around every text.
struct SentencePieceEnds {
  bool bos = false, eos = false;
};
/// tokenizer.json (the format of the Hugging Face tokenizers library) that gives the same ids, but for texts
/// that spell byte pieces ("<0x41>") with a Unigram model; "" where there is none: models with a character
/// map or that drop spaces, those with pieces of a user's behind which no space is put though it is at the
/// start, with unused pieces that texts meet, and word models, whose runs of unknown words it cannot join.
std::string tokenizer_json(const SentencePieceModel& model, const SentencePieceEnds& ends = {});
/// Whether a tokenizer.json was made of this model here, whatever it puts around a text.
bool is_tokenizer_json_of(const std::string& json, const SentencePieceModel& model);

class SentencePieceTokenizer : public Tokenizer {
 public:
  /// `bytes` is the model file. `parse_special`: whether control pieces that are written in a text become
  /// their ids where nothing else is asked for.
  SentencePieceTokenizer(std::string bytes, const std::string& origin, TokenizerSettings settings,
                         bool parse_special = false);

  using Tokenizer::encode;
  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options) const override;
  std::string surface(TokenId id, bool at_start) const override;
  bool is_byte(TokenId id) const override { return at(id).type == SentencePieceModel::Type::byte; }
  Repair repair() const override { return Repair::each_byte; }
  std::string piece(TokenId id) const override { return at(id).text; }
  TokenId find(std::string_view piece) const override;
  std::string kind() const override;
  int64_t vocab_size() const override { return static_cast<int64_t>(model_.pieces.size()); }
  bool is_special(TokenId id) const override;
  TokenId bos_id() const override { return special(model_.bos_id); }
  TokenId eos_id() const override { return special(model_.eos_id); }
  TokenId unk_id() const override { return special(model_.unk_id); }
  TokenId pad_id() const override { return special(model_.pad_id); }
  bool adds_bos() const override { return adds_bos_; }
  bool adds_eos() const { return adds_eos_; }
  bool adds_special_by_default() const override { return settings_.add_bos || settings_.add_eos; }
  bool cuts_at_words() const override { return false; }
  const std::string& chat_template(bool with_tools) const override {
    return settings_.template_for(with_tools);
  }
  std::map<std::string, std::string> named_tokens() const override { return settings_.named_tokens(); }
  uint64_t hash() const override { return hash_; }
  void save(const std::filesystem::path& folder) const override;

  const SentencePieceModel& model() const { return model_; }
  /// tokenizer_config.json beside such a tokenizer.json.
  std::string config(const std::string& json) const;
  /// tokenizer.json, "" where there is none.
  std::string json() const { return tokenizer_json(model_, {adds_bos_, adds_eos_}); }
  const TokenizerSettings& settings() const { return settings_; }

 private:
  const SentencePieceModel::Piece& at(TokenId id) const;
  TokenId special(int64_t id) const;
  void append_ids(std::string_view text, std::vector<TokenId>& ids) const;
  void append_part(std::string_view text, std::vector<TokenId>& ids) const;
  void append_rest(std::string_view text, std::vector<TokenId>& ids) const;

  std::string bytes_;
  TokenizerSettings settings_;
  SentencePieceModel model_;
  sentencepiece::SentencePieceProcessor processor_;
  uint64_t hash_;
  bool adds_bos_, adds_eos_, parse_special_;
  AddedTokenFinder special_;
  TokenId newline_ = -1;  // the piece of its own that a line break has; -1: none
};

}  // namespace llmtool
