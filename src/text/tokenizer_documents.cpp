#include "text/tokenizer_documents.h"

#include <map>
#include <set>

#include "llmtool/core/error.h"
#include "llmtool/io/json.h"
#include "text/pre_tokenizer_names.h"
#include "text/unicode.h"

namespace llmtool {

using nlohmann::json;

json empty_document() {
  return {{"version", "1.0"},         {"truncation", nullptr},
          {"padding", nullptr},       {"added_tokens", json::array()},
          {"normalizer", nullptr},    {"pre_tokenizer", nullptr},
          {"post_processor", nullptr}};
}

std::string text_of_document(const json& document) {
  return document.dump(-1, ' ', false, json::error_handler_t::replace);
}

json added_token(int64_t id, const std::string& content, bool special) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", special}};
}

json split_step(const std::string& pattern) {
  return {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
}

json byte_level_step(bool add_prefix_space, bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", add_prefix_space},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

json sequence_step(const char* key, std::vector<json> steps) { return {{"type", "Sequence"}, {key, steps}}; }

namespace {
std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t from = 0; from < text.size();) {
    const size_t end = std::min(text.find('\n', from), text.size());
    lines.push_back(text.substr(from, end - from));
    if (lines.back().ends_with('\r')) lines.back().pop_back();
    from = end + 1;
  }
  return lines;
}

json around(const json& before, const json& after) {
  json single = json::array(), tokens = json::object();
  const auto add = [&](const json& token) {
    if (token.is_null()) return;
    const std::string name = token.at("content");
    single.push_back({{"SpecialToken", {{"id", name}, {"type_id", 0}}}});
    tokens[name] = {{"id", name}, {"ids", json::array({token.at("id")})}, {"tokens", json::array({name})}};
  };
  add(before);
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  add(after);
  json pair = single;
  pair.push_back({{"Sequence", {{"id", "B"}, {"type_id", 1}}}});
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", tokens}};
}

/// The token of the document with this content; null where it has none.
json token_of(const json& document, const std::string& content) {
  for (const json& token : document.at("added_tokens")) {
    if (token.at("content") == content) return token;
  }
  return nullptr;
}

const json& vocab_of(const json& document) {
  static const json none;
  const auto model = document.find("model");
  if (model == document.end() || !model->is_object()) return none;
  const auto vocab = model->find("vocab");
  return vocab == model->end() ? none : *vocab;
}

int64_t id_in(const json& vocab, const std::string& content) {
  if (vocab.is_object() && vocab.contains(content))
    return exact_integer(vocab.at(content), 0, INT32_MAX).value_or(-1);
  for (size_t i = 0; vocab.is_array() && i < vocab.size(); ++i) {
    if (vocab[i].is_array() && !vocab[i].empty() && vocab[i][0] == content) return static_cast<int64_t>(i);
  }
  return -1;
}

/// Tokens that the settings list, in the order of the ids that they say.
std::map<int64_t, json> listed_tokens(const TokenizerSettings& s, const std::string& origin) {
  std::map<int64_t, json> tokens;
  if (const json decoder = s.config.value("added_tokens_decoder", json::object()); decoder.is_object()) {
    for (const auto& [id, value] : decoder.items()) {
      const JsonObject t(value, cat(origin, ": added_tokens_decoder: ", id));
      const bool digits =
          !id.empty() && id.size() < 9 && id.find_first_not_of("0123456789") == std::string::npos;
      if (!digits) throw Error(t.origin() + ": expected an id as the key");
      json token = added_token(std::stoll(id), t.string("content"), t.boolean("special", false));
      for (const char* key : {"single_word", "lstrip", "rstrip"}) token[key] = t.boolean(key, false);
      token["normalized"] = t.boolean("normalized", !token["special"].get<bool>());
      tokens.emplace(token["id"], token);
    }
  }
  if (const auto file = s.files.find("added_tokens.json"); file != s.files.end()) {
    const std::string where = origin + ": added_tokens.json";
    const json added = parse_json(file->second, where);
    if (!added.is_object()) throw Error(where + ": expected an object of tokens and their ids");
    for (const auto& [content, id] : added.items()) {
      const auto value = exact_integer(id, 0, int64_t{1} << 24);
      if (!value) throw Error(cat(where, ": ", content, ": expected an id, found ", shown(id)));
      tokens.emplace(*value, added_token(*value, content, false));
    }
  }
  return tokens;
}

/// The special tokens that the settings name.
std::vector<std::string> special_names(const TokenizerSettings& s, const std::string& origin) {
  std::vector<std::string> names = {s.bos, s.eos, s.unk, s.sep, s.pad, s.cls, s.mask};
  const auto add = [&](const json& list, const char* key) {
    for (const json& token : list.is_array() ? list : json::array()) {
      if (token.is_string()) names.push_back(token);
      if (token.is_object()) names.push_back(JsonObject(token, cat(origin, ": ", key)).string("content"));
    }
  };
  constexpr const char* kMore = "additional_special_tokens";
  for (const char* key : {kMore, "extra_special_tokens"}) add(s.config.value(key, json::array()), key);
  // The older file counts where there is no added_tokens_decoder.
  const auto map = s.files.find("special_tokens_map.json");
  if (map != s.files.end() && !s.config.contains("added_tokens_decoder"))
    add(parse_json(map->second, origin + ": special_tokens_map.json").value(kMore, json::array()), kMore);
  std::erase(names, "");
  return names;
}
}  // namespace

void add_named_tokens(json& document, const TokenizerSettings& s, const std::string& origin) {
  if (!document.contains("added_tokens") || !document["added_tokens"].is_array())
    document["added_tokens"] = json::array();
  const json& vocab = vocab_of(document);
  json& list = document["added_tokens"];
  std::set<std::string> there;
  auto next = static_cast<int64_t>(vocab.size());
  for (const json& token : list) {
    if (!token.is_object()) continue;
    if (token.contains("content") && token["content"].is_string()) there.insert(token["content"]);
    if (token.contains("id")) next = std::max(next, exact_integer(token["id"], 0, 1 << 24).value_or(-1) + 1);
  }
  // The reference library asks no more than the vocabulary for ids: what it lacks goes behind it, in turn.
  const auto add = [&](json token) {
    if (!there.insert(token["content"]).second) return;
    const int64_t id = id_in(vocab, token["content"]);
    token["id"] = id >= 0 ? id : next++;
    list.push_back(std::move(token));
  };
  const std::vector<std::string> names = special_names(s, origin);
  for (auto& [id, token] : listed_tokens(s, origin)) {
    const bool named = std::find(names.begin(), names.end(), token["content"]) != names.end();
    json special = token;
    if (named) special["special"] = true;
    add(std::move(special));
  }
  for (const std::string& name : names) add(added_token(0, name, true));
}

TokenizerSettings with_usual_tokens(TokenizerSettings s) {
  const auto set = [](std::string& token, const char* usual) {
    if (token.empty()) token = usual;
  };
  if (s.tokenizer_class.starts_with("RobertaTokenizer")) {
    set(s.bos, "<s>");
    set(s.eos, "</s>");
    set(s.unk, "<unk>");
    set(s.pad, "<pad>");
    set(s.cls, "<s>");
    set(s.sep, "</s>");
    set(s.mask, "<mask>");
  } else if (s.tokenizer_class.starts_with("Qwen2Tokenizer")) {
    set(s.eos, "<|endoftext|>");
  } else {
    set(s.bos, "<|endoftext|>");
    set(s.eos, "<|endoftext|>");
    set(s.unk, "<|endoftext|>");
  }
  return s;
}

json document_of_merges(const TokenizerSettings& s, const std::string& origin) {
  const std::string& kind = s.tokenizer_class;
  const bool qwen = kind.starts_with("Qwen2Tokenizer"), roberta = kind.starts_with("RobertaTokenizer");
  if (!kind.empty() && !qwen && !roberta && !kind.starts_with("GPT2Tokenizer") &&
      !kind.starts_with("GPTNeoXTokenizer")) {
    throw Error(cat(origin, ": tokenizer_class: vocab.json and merges.txt of a \"", kind,
                    "\" are not supported; is there a tokenizer.json?"));
  }
  json merges = json::array();
  for (std::string& line : lines_of(s.files.at("merges.txt"))) {
    if (!line.empty() && !line.starts_with("#version")) merges.push_back(std::move(line));
  }
  json document = empty_document();
  document["model"] = {{"type", "BPE"},
                       {"vocab", parse_json(s.files.at("vocab.json"), origin + ": vocab.json")},
                       {"merges", std::move(merges)}};
  const bool front = s.config.is_object() && s.config.value("add_prefix_space", json(false)) == json(true);
  document["pre_tokenizer"] = byte_level_step(front, true);
  document["decoder"] = byte_level_step(true, true);
  if (qwen) {
    document["normalizer"] = {{"type", "NFC"}};
    document["pre_tokenizer"] =
        sequence_step("pretokenizers", {split_step(std::string(kQwen2Words)), byte_level_step(front, false)});
  }
  if (kind.starts_with("GPTNeoXTokenizer")) document["normalizer"] = {{"type", "NFC"}};
  add_named_tokens(document, s, origin);
  if (roberta) document["post_processor"] = around(token_of(document, s.cls), token_of(document, s.sep));
  return document;
}

namespace {
json word_piece_document(json vocab, bool lowercase, bool chinese, const json& strip_accents,
                         const std::string& unknown) {
  json document = empty_document();
  document["model"] = {{"type", "WordPiece"},
                       {"vocab", std::move(vocab)},
                       {"unk_token", unknown},
                       {"continuing_subword_prefix", "##"},
                       {"max_input_chars_per_word", 100}};
  document["normalizer"] = {{"type", "BertNormalizer"},
                            {"clean_text", true},
                            {"handle_chinese_chars", chinese},
                            {"strip_accents", strip_accents},
                            {"lowercase", lowercase}};
  document["pre_tokenizer"] = {{"type", "BertPreTokenizer"}};
  document["decoder"] = {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}};
  return document;
}
}  // namespace

json document_of_word_list(const TokenizerSettings& s, const std::string& origin) {
  const JsonObject o(s.config, origin + ": tokenizer_config.json");
  json vocab = json::object();
  int64_t id = 0;
  for (const std::string& line : lines_of(s.files.at("vocab.txt"))) {
    // The last of two counts, as it does where the reference library reads such a file.
    vocab[line.substr(0, line.find_last_not_of(" \t\r") + 1)] = id++;
  }
  TokenizerSettings named = s;
  const std::pair<std::string TokenizerSettings::*, const char*> usual[] = {
      {&TokenizerSettings::unk, "[UNK]"},
      {&TokenizerSettings::sep, "[SEP]"},
      {&TokenizerSettings::pad, "[PAD]"},
      {&TokenizerSettings::cls, "[CLS]"},
      {&TokenizerSettings::mask, "[MASK]"}};
  for (const auto& [member, name] : usual) {
    if ((named.*member).empty()) named.*member = name;
  }
  json accents = nullptr;
  if (o.has("strip_accents")) accents = o.boolean("strip_accents", true);
  json document = word_piece_document(std::move(vocab), o.boolean("do_lower_case", true),
                                      o.boolean("tokenize_chinese_chars", true), accents, named.unk);
  add_named_tokens(document, named, origin);
  document["post_processor"] = around(token_of(document, named.cls), token_of(document, named.sep));
  return document;
}

namespace {
constexpr const char* kPrefix = "tokenizer.ggml.";

struct GgufTokens {
  std::vector<std::string> texts;
  std::vector<int64_t> types;  // 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
  bool is(size_t i, int64_t type) const { return types[i] == type; }
};

GgufTokens tokens_of(const GgufMetadata& m) {
  GgufTokens t{m.strings(std::string(kPrefix) + "tokens"),
               m.integers(std::string(kPrefix) + "token_type", 0, 6)};
  if (t.types.empty()) t.types.assign(t.texts.size(), 1);
  if (t.types.size() != t.texts.size() || t.texts.empty()) {
    throw Error(cat(m.origin(), ": ", kPrefix, "token_type: expected a type for each of ", t.texts.size(),
                    " tokens, found ", t.types.size()));
  }
  for (size_t i = 0; i < t.texts.size(); ++i) {
    if (!unicode::is_well_formed(t.texts[i]))
      throw Error(cat(m.origin(), ": ", kPrefix, "tokens[", i, "]: expected UTF-8"));
  }
  return t;
}

json gguf_added(const GgufTokens& t) {
  json list = json::array();
  for (size_t i = 0; i < t.texts.size(); ++i) {
    const bool special = t.is(i, 2) || t.is(i, 3);
    if ((special || t.is(i, 4)) && !t.texts[i].empty())
      list.push_back(added_token(static_cast<int64_t>(i), t.texts[i], special));
  }
  return list;
}

json gguf_vocab(const GgufMetadata& m, const std::vector<std::string>& texts) {
  json vocab = json::object();
  for (size_t i = 0; i < texts.size(); ++i) {
    if (!vocab.emplace(texts[i], i).second)
      throw Error(cat(m.origin(), ": ", kPrefix, "tokens[", i, "]: \"", texts[i], "\" stands twice"));
  }
  return vocab;
}

json gguf_bpe(const GgufMetadata& m) {
  const std::string name = m.string(std::string(kPrefix) + "pre", "");
  const NamedPreTokenizer* const pre = named_pre_tokenizer(name);
  if (!pre)
    throw Error(cat(m.origin(), ": ", kPrefix, "pre: the pre-tokenizer \"", name, "\" is not supported"));
  const GgufTokens t = tokens_of(m);
  json document = empty_document();
  document["model"] = {{"type", "BPE"},
                       {"vocab", gguf_vocab(m, t.texts)},
                       {"merges", m.strings(std::string(kPrefix) + "merges")},
                       {"ignore_merges", pre->ignore_merges}};
  std::vector<json> steps;
  for (const std::string_view expression : pre->expressions)
    steps.push_back(split_step(std::string(expression)));
  steps.push_back(byte_level_step(m.boolean(std::string(kPrefix) + "add_space_prefix", false), false));
  document["pre_tokenizer"] = sequence_step("pretokenizers", std::move(steps));
  document["decoder"] = byte_level_step(true, true);
  document["added_tokens"] = gguf_added(t);
  return document;
}

/// Where a word begins its piece has U+2581 in front; where it goes on, nothing.
json gguf_word_piece(const GgufMetadata& m) {
  constexpr std::string_view kBegins = "\xE2\x96\x81";
  GgufTokens t = tokens_of(m);
  bool capitals = false;
  for (size_t i = 0; i < t.texts.size(); ++i) {
    std::string& text = t.texts[i];
    if (!t.is(i, 1)) continue;
    if (text.starts_with(kBegins)) {
      text.erase(0, kBegins.size());
      capitals = capitals || (text.size() > 1 && text[0] >= 'A' && text[0] <= 'Z');
    } else if (!(text.starts_with('[') && text.ends_with(']'))) {
      text.insert(0, "##");
    }
  }
  const auto token = [&](const char* key, int64_t fallback) {
    const int64_t id = m.integer(std::string(kPrefix) + key, 0, int64_t{0xFFFFFFFF}, fallback);
    return id >= 0 && id < static_cast<int64_t>(t.texts.size()) ? t.texts[static_cast<size_t>(id)]
                                                                : std::string();
  };
  const std::string unknown = token("unknown_token_id", 100);
  json document = word_piece_document(gguf_vocab(m, t.texts), !capitals, true, nullptr, unknown);
  document["added_tokens"] = gguf_added(t);
  TokenizerSettings named;
  named.unk = unknown;
  named.cls =
      token("cls_token_id", m.integer(std::string(kPrefix) + "bos_token_id", 0, int64_t{0xFFFFFFFF}, 101));
  named.sep = token("seperator_token_id", 102);
  named.pad = token("padding_token_id", 0);
  named.mask = token("mask_token_id", 103);
  add_named_tokens(document, named, m.origin());
  document["post_processor"] = around(token_of(document, named.cls), token_of(document, named.sep));
  return document;
}
}  // namespace

json document_of_gguf(const GgufMetadata& m) {
  const std::string model = m.string(std::string(kPrefix) + "model");
  if (model == "bert") return gguf_word_piece(m);
  if (model == "gpt2") return gguf_bpe(m);
  throw Error(cat(m.origin(), ": ", kPrefix, "model: expected llama, t5, gpt2 or bert, found \"", model,
                  "\"; give a --tokenizer"));
}

}  // namespace llmtool
