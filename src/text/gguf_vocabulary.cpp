#include "llmtool/text/gguf_vocabulary.h"

#include <cstring>
#include <nlohmann/json.hpp>

#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "text/pipeline_tokenizer.h"
#include "text/pre_tokenizer_names.h"
#include "text/sentencepiece_tokenizer.h"

namespace llmtool {

namespace {
/// A protobuf message as it grows.
class Proto {
 public:
  Proto& integer(int field, int64_t value) {
    key(field, 0);
    varint(static_cast<uint64_t>(value));
    return *this;
  }
  Proto& real(int field, float value) {
    key(field, 5);
    char bytes[4];
    std::memcpy(bytes, &value, sizeof value);
    out_.append(bytes, sizeof bytes);
    return *this;
  }
  Proto& text(int field, const std::string& bytes) {
    key(field, 2);
    varint(bytes.size());
    out_ += bytes;
    return *this;
  }
  const std::string& bytes() const { return out_; }

 private:
  void key(int field, int wire) { varint(static_cast<uint64_t>(field << 3 | wire)); }
  void varint(uint64_t value) {
    for (; value >= 128; value >>= 7) out_ += static_cast<char>(value | 128);
    out_ += static_cast<char>(value);
  }
  std::string out_;
};

constexpr const char* kModel = "tokenizer.ggml.model";
constexpr int64_t kNone = 0xFFFFFFFF;  // "no such token"

int64_t id_of(const GgufMetadata& m, const char* key, int64_t fallback) {
  const int64_t id = m.integer(std::string("tokenizer.ggml.") + key, -1, kNone, fallback);
  return id == kNone ? -1 : id;
}
}  // namespace

bool is_sentencepiece(const GgufMetadata& m) {
  return m.has(kModel) && (m.string(kModel) == "llama" || m.string(kModel) == "t5");
}

bool has_gguf_vocabulary(const GgufMetadata& m) {
  return is_sentencepiece(m) || (m.has(kModel) && (m.string(kModel) == "gpt2" || m.string(kModel) == "bert"));
}

std::string sentencepiece_of_gguf(const GgufMetadata& m) {
  const bool unigram = m.string(kModel) == "t5";
  const std::vector<std::string> tokens = m.strings("tokenizer.ggml.tokens");
  const std::vector<float> scores = m.numbers("tokenizer.ggml.scores");
  std::vector<int64_t> types = m.integers("tokenizer.ggml.token_type", 1, 6);
  if (scores.size() != tokens.size() || types.size() != tokens.size()) {
    throw Error(cat(m.origin(), ": tokenizer.ggml: expected a score and a type for each of ", tokens.size(),
                    " tokens, found ", scores.size(), " and ", types.size()));
  }
  // The types' numbers are SentencePiece's own.
  Proto model;
  for (size_t i = 0; i < tokens.size(); ++i) {
    model.text(1, Proto().text(1, tokens[i]).real(2, scores[i]).integer(3, types[i]).bytes());
  }
  const bool bytes = std::find(types.begin(), types.end(), 6) != types.end();
  Proto trainer;
  trainer.integer(3, unigram ? 1 : 2).integer(4, static_cast<int64_t>(tokens.size())).integer(35, bytes);
  trainer.integer(40, id_of(m, "unknown_token_id", unigram ? 2 : 0))
      .integer(41, id_of(m, "bos_token_id", unigram ? -1 : 1));
  trainer.integer(42, id_of(m, "eos_token_id", unigram ? 1 : 2))
      .integer(43, id_of(m, "padding_token_id", -1));
  model.text(2, trainer.bytes());
  Proto normalizer;
  normalizer.text(1, unigram ? "nmt_nfkc" : "identity");
  if (const std::vector<int64_t> map = m.integers("tokenizer.ggml.precompiled_charsmap", -128, 255);
      !map.empty())
    normalizer.text(2, std::string(map.begin(), map.end()));
  normalizer.integer(3, m.boolean("tokenizer.ggml.add_space_prefix", true));
  normalizer.integer(4, m.boolean("tokenizer.ggml.remove_extra_whitespaces", false)).integer(5, 1);
  model.text(3, normalizer.bytes());
  return model.bytes();
}

std::string settings_of_gguf(const GgufMetadata& m) {
  const std::vector<std::string> tokens = m.strings("tokenizer.ggml.tokens");
  const std::string model = m.string(kModel, "");
  nlohmann::ordered_json json = {{"clean_up_tokenization_spaces", false}, {"legacy", true}};
  if (model != "llama") json["tokenizer_class"] = "PreTrainedTokenizerFast";
  // BERT's [CLS] and [SEP] come with its post-processor.
  if (model != "bert") {
    const NamedPreTokenizer* const pre = named_pre_tokenizer(m.string("tokenizer.ggml.pre", ""));
    const bool bos = model == "llama" || (model == "gpt2" && pre && pre->adds_bos);
    json["add_bos_token"] = m.boolean("tokenizer.ggml.add_bos_token", bos);
    json["add_eos_token"] = m.boolean("tokenizer.ggml.add_eos_token", model == "t5");
  }
  const auto name = [&](const char* key, int64_t id) {
    if (id >= 0 && id < static_cast<int64_t>(tokens.size())) json[key] = tokens[static_cast<size_t>(id)];
  };
  const bool spm = is_sentencepiece(m);
  name("bos_token", id_of(m, "bos_token_id", model == "llama" ? 1 : -1));
  name("eos_token", id_of(m, "eos_token_id", model == "llama" ? 2 : model == "t5" ? 1 : -1));
  name("unk_token", id_of(m, "unknown_token_id", model == "t5" ? 2 : spm ? 0 : -1));
  name("pad_token", id_of(m, "padding_token_id", -1));
  if (model == "bert") name("cls_token", id_of(m, "cls_token_id", -1));
  if (m.has("tokenizer.chat_template")) json["chat_template"] = m.string("tokenizer.chat_template");
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

namespace {
constexpr const char* kTokens = "tokenizer.ggml.tokens";
constexpr const char* kTypes = "tokenizer.ggml.token_type";

void add_ids(const Tokenizer& tokenizer, std::vector<GgufEntry>& entries) {
  const std::pair<const char*, TokenId> ids[] = {{"unknown_token_id", tokenizer.unk_id()},
                                                 {"bos_token_id", tokenizer.bos_id()},
                                                 {"eos_token_id", tokenizer.eos_id()},
                                                 {"padding_token_id", tokenizer.pad_id()}};
  for (const auto& [key, id] : ids) {
    if (id >= 0) entries.push_back({std::string("tokenizer.ggml.") + key, static_cast<uint32_t>(id)});
  }
  // A reader takes 1 for a BOS that is not named.
  if (tokenizer.bos_id() < 0)
    entries.push_back({"tokenizer.ggml.bos_token_id", static_cast<uint32_t>(kNone)});
  if (!tokenizer.chat_template(false).empty())
    entries.push_back({"tokenizer.chat_template", tokenizer.chat_template(false)});
}

std::vector<GgufEntry> of_sentencepiece(const SentencePieceTokenizer& tokenizer) {
  const SentencePieceModel& model = tokenizer.model();
  if (model.algorithm != SentencePieceModel::Algorithm::bpe || model.has_character_map ||
      model.treat_whitespace_as_suffix || !model.escape_whitespaces) {
    return {};
  }
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<int32_t> types;
  for (const auto& piece : model.pieces) {
    tokens.push_back(piece.text);
    scores.push_back(piece.score);
    types.push_back(static_cast<int32_t>(piece.type));
  }
  std::vector<GgufEntry> entries = {
      {kModel, std::string("llama")},
      {kTokens, tokens},
      {"tokenizer.ggml.scores", scores},
      {kTypes, types},
      {"tokenizer.ggml.add_bos_token", tokenizer.adds_bos()},
      {"tokenizer.ggml.add_eos_token", tokenizer.adds_eos()},
      {"tokenizer.ggml.add_space_prefix", model.add_dummy_prefix},
      {"tokenizer.ggml.remove_extra_whitespaces", model.remove_extra_whitespaces}};
  add_ids(tokenizer, entries);
  return entries;
}

/// Tokens and their types; ids without a token get a name that no text has.
void add_tokens(const PipelineTokenizer& tokenizer, std::vector<GgufEntry>& entries,
                const std::function<std::string(const std::string&)>& spelled) {
  const Pipeline& p = tokenizer.pipeline();
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  for (TokenId id = 0; id < p.vocabulary.size(); ++id) {
    const bool used = p.vocabulary.has(id);
    tokens.push_back(used ? p.vocabulary.token(id) : cat("[PAD", id, "]"));
    types.push_back(used ? 1 : 5);
  }
  for (const AddedToken& token : p.added) types[static_cast<size_t>(token.id)] = token.special ? 3 : 4;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (types[i] == 1) tokens[i] = spelled(tokens[i]);
  }
  entries.push_back({kTokens, tokens});
  entries.push_back({kTypes, types});
}

/// The name under which llama.cpp knows how a tokenizer.json cuts texts into words; "" where it does not.
std::string pre_tokenizer_name(const nlohmann::json& step) {
  std::vector<std::string> expressions;
  std::string kinds;
  const std::function<void(const nlohmann::json&)> collect = [&](const nlohmann::json& s) {
    const std::string type = s.value("type", "");
    if (type == "Sequence") {
      for (const nlohmann::json& part : s.at("pretokenizers")) collect(part);
      return;
    }
    kinds += type + " ";
    if (type == "ByteLevel" && s.value("add_prefix_space", true)) kinds += "with a space ";
    if (type == "ByteLevel" && s.value("use_regex", true)) expressions.emplace_back(kGpt2Words);
    if (type == "Split") {
      const bool plain = s.value("behavior", "") == "Isolated" && !s.value("invert", false);
      expressions.push_back(plain ? s.at("pattern").value("Regex", "") : "");
    }
  };
  collect(step);
  if (kinds == "Punctuation ByteLevel Digits Split ") return "falcon";
  const bool known = kinds.ends_with("ByteLevel ") && kinds.find("with a space") == std::string::npos;
  return known ? std::string(pre_tokenizer_named_by(expressions)) : "";
}

std::vector<GgufEntry> of_byte_level(const PipelineTokenizer& tokenizer, const nlohmann::json& document) {
  const nlohmann::json& model = document.at("model");
  const nlohmann::json normalizer = document.value("normalizer", nlohmann::json());
  const std::string pre = pre_tokenizer_name(document.at("pre_tokenizer"));
  if (pre.empty() || !(normalizer.is_null() || normalizer.value("type", "") == "NFC")) return {};
  if (!normalizer.is_null())
    warn(
        "llama.cpp takes texts as they are: one that is not in Unicode's normal form C gets other ids there");
  std::vector<std::string> merges;
  for (const nlohmann::json& merge : model.at("merges"))
    merges.push_back(merge.is_string() ? merge.get<std::string>()
                                       : merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  std::vector<GgufEntry> entries = {{kModel, std::string("gpt2")}, {"tokenizer.ggml.pre", pre}};
  add_tokens(tokenizer, entries, [](const std::string& token) { return token; });
  entries.push_back({"tokenizer.ggml.merges", merges});
  entries.push_back({"tokenizer.ggml.add_bos_token", tokenizer.adds_bos()});
  add_ids(tokenizer, entries);
  return entries;
}

std::vector<GgufEntry> of_word_piece(const PipelineTokenizer& tokenizer, const nlohmann::json& document) {
  const nlohmann::json normalizer = document.value("normalizer", nlohmann::json());
  // llama.cpp makes every text small.
  const bool usual = normalizer.is_object() && normalizer.value("type", "") == "BertNormalizer" &&
                     normalizer.value("lowercase", true) &&
                     document.at("model").value("continuing_subword_prefix", "##") == "##";
  if (!usual) return {};
  std::vector<GgufEntry> entries = {{kModel, std::string("bert")},
                                    {"tokenizer.ggml.pre", std::string("default")}};
  add_tokens(tokenizer, entries, [](const std::string& token) {
    return token.starts_with("##") ? token.substr(2) : "\xE2\x96\x81" + token;
  });
  const TokenizerSettings& s = tokenizer.settings();
  const auto id = [&](const std::string& named, const char* usual_name) {
    return tokenizer.find(named.empty() ? usual_name : named);
  };
  const std::pair<const char*, TokenId> ids[] = {
      {"unknown_token_id", id(s.unk, "[UNK]")}, {"cls_token_id", id(s.cls, "[CLS]")},
      {"bos_token_id", id(s.cls, "[CLS]")},     {"seperator_token_id", id(s.sep, "[SEP]")},
      {"padding_token_id", id(s.pad, "[PAD]")}, {"mask_token_id", id(s.mask, "[MASK]")}};
  for (const auto& [key, value] : ids) {
    if (value >= 0) entries.push_back({std::string("tokenizer.ggml.") + key, static_cast<uint32_t>(value)});
  }
  return entries;
}
}  // namespace

std::vector<GgufEntry> gguf_vocabulary(const Tokenizer& tokenizer) {
  if (const auto* const known = dynamic_cast<const SentencePieceTokenizer*>(&tokenizer))
    return of_sentencepiece(*known);
  const auto* const known = dynamic_cast<const PipelineTokenizer*>(&tokenizer);
  if (!known) return {};
  const nlohmann::json document = nlohmann::json::parse(known->json());
  if (known->pipeline().bytes.used) return of_byte_level(*known, document);
  return document.at("model").value("type", "") == "WordPiece" ? of_word_piece(*known, document)
                                                               : std::vector<GgufEntry>();
}

}  // namespace llmtool
