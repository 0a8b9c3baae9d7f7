#include "text/pipeline_tokenizer.h"

#include "llmtool/core/error.h"
#include "llmtool/io/files.h"
#include "text/byte_level.h"
#include "text/unicode.h"

namespace llmtool {

PipelineTokenizer::PipelineTokenizer(Pipeline pipeline, TokenizerSettings settings, uint64_t hash)
    : p_(std::move(pipeline)), settings_(std::move(settings)), hash_(hash) {
  const auto n = static_cast<size_t>(p_.vocabulary.size());
  added_spelling_.resize(n);
  special_.resize(n);
  for (const AddedToken& token : p_.added) {
    NormalizedText spelled = {token.content};
    if (token.normalized && p_.normalizer) p_.normalizer(spelled);
    (token.normalized ? normalized_ : plain_).add(token, spelled.text);
    added_spelling_[static_cast<size_t>(token.id)] = spelled.text;
    special_[static_cast<size_t>(token.id)] = token.special;
  }
  set_special_ids();
  if (!settings_.add_bos && !settings_.add_eos) return;
  p_.before.clear();
  p_.after.clear();
  if (settings_.add_bos.value_or(false) && bos_ >= 0) p_.before = {bos_};
  if (settings_.add_eos.value_or(false) && eos_ >= 0) p_.after = {eos_};
}

void PipelineTokenizer::set_special_ids() {
  const auto named = [&](const std::string& name, std::initializer_list<const char*> usual) {
    if (!name.empty()) return find(name);
    if (!settings_.config.empty()) return TokenId{-1};
    // No file says it: the names that everyone uses.
    for (const char* token : usual) {
      const TokenId id = find(token);
      if (id >= 0 && special_[static_cast<size_t>(id)]) return id;
    }
    return TokenId{-1};
  };
  bos_ = named(settings_.bos, {"<s>", "<|begin_of_text|>", "<bos>", "[CLS]"});
  eos_ = named(settings_.eos, {"</s>", "<|end_of_text|>", "<|endoftext|>", "<eos>", "[SEP]"});
  unk_ = settings_.unk.empty() ? p_.unknown : find(settings_.unk);
  pad_ = named(settings_.pad, {"<pad>", "[PAD]"});
}

void PipelineTokenizer::check(TokenId id) const {
  if (p_.vocabulary.has(id)) return;
  throw Error(
      cat("[tokenizer] expected an id from 0 to ", vocab_size() - 1, " that has a token, found ", id));
}

std::string PipelineTokenizer::piece(TokenId id) const {
  check(id);
  return p_.vocabulary.token(id);
}

bool PipelineTokenizer::is_special(TokenId id) const {
  if (id < 0 || id >= vocab_size()) check(id);
  return special_[static_cast<size_t>(id)];
}

std::string PipelineTokenizer::surface(TokenId id, bool at_start) const {
  check(id);
  const std::string& added = added_spelling_[static_cast<size_t>(id)];
  const std::string& token = p_.vocabulary.token(id);
  // The reference library passes over special tokens by what they are spelled like.
  if (special_[static_cast<size_t>(id)] && added == token) return "";
  return p_.detokenizer->surface(added.empty() ? token : added, at_start);
}

bool PipelineTokenizer::is_byte(TokenId id) const {
  check(id);
  return p_.detokenizer->byte_level() || p_.detokenizer->byte_of(p_.vocabulary.token(id)).has_value();
}

Tokenizer::Repair PipelineTokenizer::repair() const {
  return p_.detokenizer->byte_level() ? Repair::subsequence : Repair::byte_run;
}

void PipelineTokenizer::encode_words(Words words, std::vector<TokenId>& ids) const {
  if (p_.pre_tokenizer) p_.pre_tokenizer(words);
  for (const Words::Word& word : words.list) {
    if (!p_.bytes.mapped) {
      p_.model->encode(word.text, ids);
    } else if (const auto bytes = bytes_of_characters(word.text); bytes && !bytes->empty()) {
      p_.model->encode(*bytes, ids);
    }
  }
}

void PipelineTokenizer::encode_part(std::string_view text, const EncodeOptions& options, bool first,
                                    std::vector<TokenId>& ids) const {
  NormalizedText normalized;
  const bool continues = first && options.continues;
  if (p_.normalizer) {
    normalized = {std::string(text), continues};
    p_.normalizer(normalized);
    text = normalized.text;
  }
  const auto encode_words_of = [&](std::string_view part) {
    if (part.empty()) return;
    const bool at_start = first && part.data() == text.data();
    encode_words({{{part, at_start}}, {}, continues && at_start, normalized.begins}, ids);
  };
  if (normalized_.empty()) return encode_words_of(text);
  normalized_.cut(text, options.parse_special.value_or(true),
                  [&](std::string_view part, const AddedToken* token) {
                    if (token) {
                      ids.push_back(token->id);
                    } else {
                      encode_words_of(part);
                    }
                  });
}

std::vector<TokenId> PipelineTokenizer::encode(std::string_view given, const EncodeOptions& options) const {
  std::vector<TokenId> ids;
  if (options.add_special_tokens && !options.continues) ids = p_.before;
  std::string repaired;
  const std::string_view text = unicode::well_formed(given, repaired);
  plain_.cut(text, options.parse_special.value_or(true), [&](std::string_view part, const AddedToken* token) {
    if (token) {
      ids.push_back(token->id);
    } else {
      encode_part(part, options, part.data() == text.data(), ids);
    }
  });
  if (options.add_special_tokens && !options.unfinished)
    ids.insert(ids.end(), p_.after.begin(), p_.after.end());
  return ids;
}

void PipelineTokenizer::save(const std::filesystem::path& folder) const {
  if (p_.json) write_file(folder / "tokenizer.json", p_.json());
  for (const auto& [name, content] : settings_.files) {
    std::filesystem::create_directories((folder / name).parent_path());
    write_file(folder / name, content);
  }
}

}  // namespace llmtool
