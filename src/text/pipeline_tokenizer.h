#pragma once
// A tokenizer of the parts that tokenizer.json names: added tokens, normalizer, pre-tokenizer, model,
// post-processor, decoder.

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "llmtool/text/tokenizer.h"
#include "text/added_tokens.h"
#include "text/detokenizer.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"
#include "text/subword_model.h"
#include "text/tokenizer_settings.h"

namespace llmtool {

struct Pipeline {
  std::string kind;       // of the model
  Vocabulary vocabulary;  // the model's and the added tokens, as they are spelled
  std::vector<AddedToken> added;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  ByteLevel bytes;
  std::unique_ptr<const SubwordModel> model;
  TokenId unknown = -1;                // the model's
  std::vector<TokenId> before, after;  // what the post-processor puts around a text
  std::unique_ptr<const Detokenizer> detokenizer;
  std::function<std::string()> json;  // tokenizer.json, where no file has it
};

/// The parts of a tokenizer.json. Throws Error, opening with `origin`, on what is malformed or not supported.
Pipeline read_pipeline(const nlohmann::json& json, const std::string& origin);

class PipelineTokenizer : public Tokenizer {
 public:
  /// Where `settings` have add_bos or add_eos, BOS and EOS stand around a text in place of what the
  /// post-processor gives.
  PipelineTokenizer(Pipeline pipeline, TokenizerSettings settings, uint64_t hash);

  using Tokenizer::encode;
  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options) const override;
  std::string surface(TokenId id, bool at_start) const override;
  bool is_byte(TokenId id) const override;
  Repair repair() const override;
  std::string piece(TokenId id) const override;
  TokenId find(std::string_view piece) const override { return p_.vocabulary.find(piece); }
  std::string kind() const override { return p_.kind; }
  int64_t vocab_size() const override { return p_.vocabulary.size(); }
  bool is_special(TokenId id) const override;
  TokenId bos_id() const override { return bos_; }
  TokenId eos_id() const override { return eos_; }
  TokenId unk_id() const override { return unk_; }
  TokenId pad_id() const override { return pad_; }
  bool adds_bos() const override { return !p_.before.empty() && p_.before[0] == bos_; }
  bool adds_special_by_default() const override { return true; }
  bool cuts_at_words() const override { return true; }
  const std::string& chat_template(bool with_tools) const override {
    return settings_.template_for(with_tools);
  }
  std::map<std::string, std::string> named_tokens() const override { return settings_.named_tokens(); }
  uint64_t hash() const override { return hash_; }
  void save(const std::filesystem::path& folder) const override;

  const TokenizerSettings& settings() const { return settings_; }
  std::string json() const { return p_.json ? p_.json() : settings_.files.at("tokenizer.json"); }
  const Pipeline& pipeline() const { return p_; }

 private:
  void check(TokenId id) const;
  void set_special_ids();
  void encode_part(std::string_view text, const EncodeOptions& options, bool first,
                   std::vector<TokenId>& ids) const;
  void encode_words(Words words, std::vector<TokenId>& ids) const;

  Pipeline p_;
  TokenizerSettings settings_;
  uint64_t hash_;
  TokenId bos_ = -1, eos_ = -1, unk_ = -1, pad_ = -1;
  AddedTokenFinder plain_, normalized_;  // added tokens in the text as it is, and in the normalized one
  std::vector<std::string>
      added_spelling_;         // of added tokens by id, normalized where they are; "" for others
  std::vector<bool> special_;  // by id
};

}  // namespace llmtool
