// tokenizer.json: the format of https://github.com/huggingface/tokenizers

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "llmtool/core/error.h"
#include "llmtool/io/json.h"
#include "text/bpe_model.h"
#include "text/byte_level.h"
#include "text/pipeline_tokenizer.h"
#include "text/unigram_model.h"
#include "text/word_piece_model.h"

namespace llmtool {

namespace {
using nlohmann::json;
constexpr size_t kMaxAdded = 4096;  // bytes of an added token

const json& list_of(const JsonObject& o, const char* key) {
  static const json none = json::array();
  if (!o.has(key)) return none;
  const json& list = o.json().at(key);
  if (!list.is_array()) throw Error(cat(o.origin(), ": ", key, ": expected a list, found ", shown(list)));
  return list;
}

int64_t id_of(const json& value, const std::string& where) {
  const auto id = exact_integer(value, 0, int64_t{1} << 24);
  if (!id) throw Error(cat(where, ": expected an id, found ", shown(value)));
  return *id;
}

Vocabulary vocabulary_of(const JsonObject& model) {
  const std::string where = model.origin() + ": vocab";
  if (!model.has("vocab") || !model.json().at("vocab").is_object())
    throw Error(where + ": expected an object of tokens and their ids");
  Vocabulary vocabulary;
  for (const auto& [token, id] : model.json().at("vocab").items()) {
    vocabulary.add(token, id_of(id, cat(where, ": \"", token, "\"")), where);
  }
  return vocabulary;
}

std::pair<std::string, std::string> merge_of(const json& value, const std::string& where) {
  if (value.is_array() && value.size() == 2 && value[0].is_string() && value[1].is_string())
    return {value[0].get<std::string>(), value[1].get<std::string>()};
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos)
      return {text.substr(0, space), text.substr(space + 1)};
  }
  throw Error(cat(where, ": expected two tokens, found ", shown(value)));
}

std::vector<BpeRule> rules_of(const JsonObject& model, const Vocabulary& vocabulary,
                              const std::string& continuing_prefix) {
  std::vector<BpeRule> rules;
  const json& merges = list_of(model, "merges");
  rules.reserve(merges.size());
  for (size_t i = 0; i < merges.size(); ++i) {
    const std::string where = cat(model.origin(), ": merges[", i, "]");
    const auto [left, right] = merge_of(merges[i], where);
    const auto known = [&](const std::string& token) {
      const TokenId id = vocabulary.find(token);
      if (id < 0) throw Error(cat(where, ": expected tokens of the vocabulary, found \"", token, "\""));
      return id;
    };
    const std::string rest =
        right.substr(right.starts_with(continuing_prefix) ? continuing_prefix.size() : 0);
    rules.push_back({known(left), known(right), known(left + rest), static_cast<uint32_t>(i)});
  }
  return rules;
}

TokenId unknown_of(const JsonObject& model, const Vocabulary& vocabulary, bool needed) {
  const std::string name = model.string("unk_token", "");
  const TokenId id = name.empty() ? -1 : vocabulary.find(name);
  if (needed && !name.empty() && id < 0)
    throw Error(cat(model.origin(), ": unk_token: expected a token of the vocabulary, found \"", name, "\""));
  return id;
}

void read_bpe(const JsonObject& model, Pipeline& p) {
  if (model.number("dropout", 0) != 0)
    throw Error(cat(model.origin(), ": dropout: merges that are left out by chance are not supported"));
  p.vocabulary = vocabulary_of(model);
  BpeOptions options;
  options.continuing_prefix = model.string("continuing_subword_prefix", "");
  options.end_suffix = model.string("end_of_word_suffix", "");
  options.fuse_unknown = model.boolean("fuse_unk", false);
  options.byte_fallback = model.boolean("byte_fallback", false);
  options.ignore_merges = model.boolean("ignore_merges", false);
  options.unknown = p.unknown = unknown_of(model, p.vocabulary, !p.bytes.used);
  if (p.bytes.used && (!options.continuing_prefix.empty() || !options.end_suffix.empty())) {
    throw Error(cat(model.origin(), ": a prefix or suffix of pieces of bytes is not supported"));
  }
  const std::vector<BpeRule> rules = rules_of(model, p.vocabulary, options.continuing_prefix);
  Vocabulary pieces;
  if (p.bytes.used) {
    for (TokenId id = 0; id < p.vocabulary.size(); ++id) {
      if (!p.vocabulary.has(id)) continue;
      if (const auto bytes = bytes_of_characters(p.vocabulary.token(id)))
        pieces.add(*bytes, id, model.origin());
    }
  } else {
    pieces = p.vocabulary;
  }
  p.model = std::make_unique<BpeModel>(std::move(pieces), rules, options, p.bytes.used);
}

void read_unigram(const JsonObject& model, Pipeline& p) {
  const json& list = list_of(model, "vocab");
  std::vector<double> scores;
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string where = cat(model.origin(), ": vocab[", i, "]");
    const json& entry = list[i];
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number() ||
        !std::isfinite(entry[1].get<double>())) {
      throw Error(cat(where, ": expected a token and its score, found ", shown(entry)));
    }
    p.vocabulary.add(entry[0].get_ref<const std::string&>(), static_cast<int64_t>(i), where);
    scores.push_back(entry[1].get<double>());
  }
  const auto last = static_cast<int64_t>(list.size()) - 1;
  if (model.has("unk_id")) p.unknown = static_cast<TokenId>(model.integer("unk_id", 0, last));
  p.model = std::make_unique<UnigramModel>(p.vocabulary, std::move(scores), p.unknown,
                                           model.boolean("byte_fallback", false));
}

void read_word_piece(const JsonObject& model, Pipeline& p) {
  p.vocabulary = vocabulary_of(model);
  WordPieceOptions options;
  const std::string name = model.string("unk_token", "[UNK]");
  options.unknown = p.unknown = p.vocabulary.find(name);
  if (p.unknown < 0)
    throw Error(cat(model.origin(), ": unk_token: expected a token of the vocabulary, found \"", name, "\""));
  options.continuing_prefix = model.string("continuing_subword_prefix", "##");
  options.longest_word = model.integer("max_input_chars_per_word", 0, 1 << 20, 100);
  p.model = std::make_unique<WordPieceModel>(p.vocabulary, options);
}

void read_model(const JsonObject& model, Pipeline& p) {
  std::string type = model.string("type", "");
  if (type.empty()) {
    // Older files do not say it.
    type = model.has("merges")                                         ? "BPE"
           : model.has("vocab") && model.json().at("vocab").is_array() ? "Unigram"
           : model.has("max_input_chars_per_word")                     ? "WordPiece"
                                                                       : "WordLevel";
  }
  p.kind = (p.bytes.used ? "byte-level " : "") + type;
  if (p.bytes.used && type != "BPE")
    throw Error(cat(model.origin(), ": a model of type \"", type, "\" over bytes is not supported"));
  if (type == "BPE") return read_bpe(model, p);
  if (type == "Unigram") return read_unigram(model, p);
  if (type == "WordPiece") return read_word_piece(model, p);
  if (type == "WordLevel") {
    p.vocabulary = vocabulary_of(model);
    p.unknown = unknown_of(model, p.vocabulary, true);
    p.model = std::make_unique<WordLevelModel>(p.vocabulary, p.unknown);
    return;
  }
  throw Error(cat(model.origin(), ": a model of type \"", type, "\" is not supported"));
}

void read_added(const JsonObject& o, Pipeline& p) {
  const json& list = list_of(o, "added_tokens");
  for (size_t i = 0; i < list.size(); ++i) {
    const JsonObject t(list[i], cat(o.origin(), ": added_tokens[", i, "]"));
    AddedToken token;
    token.id = static_cast<TokenId>(t.integer("id", 0, (1 << 24) - 1));
    token.content = t.string("content");
    token.single_word = t.boolean("single_word", false);
    token.lstrip = t.boolean("lstrip", false);
    token.rstrip = t.boolean("rstrip", false);
    token.special = t.boolean("special", false);
    token.normalized = t.boolean("normalized", !token.special);
    if (token.content.empty()) continue;
    if (token.content.size() > kMaxAdded) {
      throw Error(
          cat(t.origin(), ": content: expected at most ", kMaxAdded, " bytes, found ", token.content.size()));
    }
    p.vocabulary.add(token.content, token.id, t.origin());
    p.added.push_back(std::move(token));
  }
}

/// A pair ["[SEP]", 102].
TokenId pair_id(const JsonObject& o, const char* key) {
  const json& pair = list_of(o, key);
  if (pair.size() != 2) throw Error(cat(o.origin(), ": ", key, ": expected a token and its id"));
  return static_cast<TokenId>(id_of(pair[1], cat(o.origin(), ": ", key)));
}

void read_template(const JsonObject& o, std::vector<TokenId>& before, std::vector<TokenId>& after) {
  bool behind = false;
  const json tokens = o.json().value("special_tokens", json::object());
  const json& single = list_of(o, "single");
  std::vector<TokenId> front;
  for (size_t i = 0; i < single.size(); ++i) {
    const JsonObject piece(single[i], cat(o.origin(), ": single[", i, "]"));
    if (piece.has("Sequence")) {
      if (behind) throw Error(piece.origin() + ": the text stands twice, which is not supported");
      behind = true;
      continue;
    }
    if (!piece.has("SpecialToken")) throw Error(piece.origin() + ": expected Sequence or SpecialToken");
    const JsonObject named(piece.json().at("SpecialToken"), piece.origin() + ": SpecialToken");
    const std::string name = named.string("id");
    if (!tokens.is_object() || !tokens.contains(name))
      throw Error(cat(named.origin(), ": id: expected a key of special_tokens, found \"", name, "\""));
    const JsonObject token(tokens.at(name), cat(o.origin(), ": special_tokens: ", name));
    for (const int64_t id : token.integers("ids", 0, (1 << 24) - 1))
      (behind ? after : front).push_back(static_cast<TokenId>(id));
  }
  if (!behind) throw Error(o.origin() + ": single: expected the text among its pieces");
  before.insert(before.begin(), front.begin(), front.end());
}

void read_post_processor(const json& value, const std::string& origin, Pipeline& p) {
  if (value.is_null()) return;
  const JsonObject o(value, origin);
  const std::string type = o.string("type");
  if (type == "ByteLevel") return;  // which moves offsets, not tokens
  if (type == "TemplateProcessing") return read_template(o, p.before, p.after);
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    p.before.insert(p.before.begin(), pair_id(o, "cls"));
    p.after.push_back(pair_id(o, "sep"));
    return;
  }
  if (type != "Sequence")
    throw Error(cat(origin, ": a post-processor of type \"", type, "\" is not supported"));
  const json& list = list_of(o, "processors");
  for (size_t i = 0; i < list.size(); ++i)
    read_post_processor(list[i], cat(origin, ".processors[", i, "]"), p);
}
}  // namespace

Pipeline read_pipeline(const json& value, const std::string& origin) {
  const JsonObject o(value, origin);
  const auto part = [&](const char* key) { return o.has(key) ? o.json().at(key) : json(); };
  Pipeline p;
  bool bytes = false;
  p.normalizer = read_normalizer(part("normalizer"), origin + ": normalizer", bytes);
  p.bytes = {bytes, bytes};
  p.pre_tokenizer = read_pre_tokenizer(part("pre_tokenizer"), origin + ": pre_tokenizer", p.bytes);
  read_model(JsonObject(part("model"), origin + ": model"), p);
  read_added(o, p);
  read_post_processor(part("post_processor"), origin + ": post_processor", p);
  for (const auto* ids : {&p.before, &p.after}) {
    for (const TokenId id : *ids) {
      if (!p.vocabulary.has(id)) throw Error(cat(origin, ": post_processor: the id ", id, " has no token"));
    }
  }
  p.detokenizer = std::make_unique<Detokenizer>(part("decoder"), origin + ": decoder");
  return p;
}

}  // namespace llmtool
