#pragma once
// A tokenizer from a SentencePiece model file.

#include <sentencepiece_processor.h>

#include <string>

#include "llmtool/text/tokenizer.h"
#include "text/sentencepiece_model.h"

namespace llmtool {

class SentencePieceTokenizer : public Tokenizer {
 public:
  /// `bytes` is the model file; `settings` the folder's tokenizer_config.json, "" where there is none.
  SentencePieceTokenizer(std::string bytes, const std::string& origin, std::string settings);

  std::vector<TokenId> encode(std::string_view text) const override;
  std::vector<TokenId> encode_rest(std::string_view text) const override;
  std::string surface(TokenId id, bool at_start) const override;
  bool is_byte(TokenId id) const override { return at(id).type == SentencePieceModel::Type::byte; }
  std::string piece(TokenId id) const override { return at(id).text; }
  int64_t vocab_size() const override { return static_cast<int64_t>(model_.pieces.size()); }
  bool is_special(TokenId id) const override;
  TokenId bos_id() const override { return special(model_.bos_id); }
  TokenId eos_id() const override { return special(model_.eos_id); }
  TokenId unk_id() const override { return special(model_.unk_id); }
  TokenId pad_id() const override { return special(model_.pad_id); }
  bool adds_bos() const override { return adds_bos_; }
  uint64_t hash() const override { return hash_; }
  void save(const std::filesystem::path& folder) const override;

  const SentencePieceModel& model() const { return model_; }

 private:
  const SentencePieceModel::Piece& at(TokenId id) const;
  TokenId special(int64_t id) const;
  void append_ids(std::string_view text, std::vector<TokenId>& ids) const;

  std::string bytes_, settings_;
  SentencePieceModel model_;
  sentencepiece::SentencePieceProcessor processor_;
  uint64_t hash_;
  bool adds_bos_;
  TokenId newline_ = -1;  // the piece of its own that a line break has; -1: none
};

/// tokenizer.json (the format of the Hugging Face tokenizers library) that gives the same ids; "" where there
/// is none: models with a character map, and word models, whose runs of unknown words it cannot join.
std::string tokenizer_json(const SentencePieceModel& model);

}  // namespace llmtool
