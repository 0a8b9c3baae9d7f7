// A SentencePiece model as tokenizer.json.

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <unordered_set>

#include "text/sentencepiece_tokenizer.h"
#include "text/utf8.h"

namespace llmtool {

namespace {
using Json = nlohmann::ordered_json;
using Algorithm = SentencePieceModel::Algorithm;
using Type = SentencePieceModel::Type;
constexpr const char* kSpace = "\xE2\x96\x81";

Json vocabulary(const SentencePieceModel& model) {
  Json::object_t vocab;
  std::vector<Json::object_t::value_type>& entries = vocab;  // its own emplace looks through all for each
  for (size_t id = 0; id < model.pieces.size(); ++id) entries.emplace_back(model.pieces[id].text, id);
  return vocab;
}

/// Every way to join two pieces to a third, the best score first: what SentencePiece does by scores, as
/// rules.
Json merges(const SentencePieceModel& model) {
  std::unordered_map<std::string_view, size_t> ids;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    if (model.pieces[id].type == Type::normal) ids[model.pieces[id].text] = id;
  }
  struct Rule {
    float score;
    size_t whole, left, right;
  };
  std::vector<Rule> rules;
  for (const auto& [text, whole] : ids) {
    for (size_t cut = 0; cut < text.size();) {
      cut += static_cast<size_t>(std::max(1, utf8_length(text.substr(cut))));
      if (cut >= text.size()) break;
      const auto left = ids.find(text.substr(0, cut)), right = ids.find(text.substr(cut));
      if (left != ids.end() && right != ids.end()) {
        rules.push_back({model.pieces[whole].score, whole, left->second, right->second});
      }
    }
  }
  std::sort(rules.begin(), rules.end(), [](const Rule& a, const Rule& b) {
    return std::tuple(-a.score, a.whole, a.left, a.right) < std::tuple(-b.score, b.whole, b.left, b.right);
  });
  Json list = Json::array();
  for (const Rule& rule : rules)
    list.push_back({model.pieces[rule.left].text, model.pieces[rule.right].text});
  return list;
}

Json algorithm_json(const SentencePieceModel& model, bool with_merges) {
  if (model.algorithm == Algorithm::unigram) {
    Json vocab = Json::array();
    for (const auto& piece : model.pieces) vocab.push_back({piece.text, piece.score});
    return {{"type", "Unigram"},
            {"unk_id", model.unk_id},
            {"vocab", vocab},
            {"byte_fallback", model.byte_fallback}};
  }
  // A character model is one of pairs without any rule.
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", model.pieces[static_cast<size_t>(model.unk_id)].text},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", true},
          {"byte_fallback", model.byte_fallback},
          {"ignore_merges", false},
          {"vocab", vocabulary(model)},
          {"merges", with_merges && model.algorithm == Algorithm::bpe ? merges(model) : Json::array()}};
}

Json added_tokens(const SentencePieceModel& model) {
  Json list = Json::array();
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const auto& piece = model.pieces[id];
    const bool special = piece.type == Type::control || piece.type == Type::unknown;
    if (!special && piece.type != Type::user_defined) continue;
    list.push_back({{"id", id},
                    {"content", piece.text},
                    {"single_word", false},
                    {"lstrip", false},
                    {"rstrip", false},
                    {"normalized", !special && piece.text.find(kSpace) != std::string::npos},
                    {"special", special}});
  }
  return list;
}

Json replace(const char* from, const char* to) {
  return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}

Json normalizer(const SentencePieceModel& model) {
  if (!model.add_dummy_prefix) return replace(" ", kSpace);
  const Json prefix = {{"type", "Prepend"}, {"prepend", kSpace}};
  return {{"type", "Sequence"}, {"normalizers", Json::array({prefix, replace(" ", kSpace)})}};
}

Json decoder(const SentencePieceModel& model) {
  Json decoders = Json::array({replace(kSpace, " ")});
  if (model.byte_fallback) decoders.push_back({{"type", "ByteFallback"}});
  decoders.push_back({{"type", "Fuse"}});
  if (model.add_dummy_prefix)
    decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  return {{"type", "Sequence"}, {"decoders", decoders}};
}

/// What stands around a text, and around each of two.
Json post_processor(const SentencePieceModel& model, const SentencePieceEnds& ends) {
  if (!ends.bos && !ends.eos) return nullptr;
  Json single = Json::array(), pair = Json::array(), tokens = Json::object();
  const auto add_token = [&](int64_t id, int type) {
    const std::string& text = model.pieces[static_cast<size_t>(id)].text;
    tokens[text] = {{"id", text}, {"ids", {id}}, {"tokens", {text}}};
    const Json part = {{"SpecialToken", {{"id", text}, {"type_id", type}}}};
    if (type == 0) single.push_back(part);
    pair.push_back(part);
  };
  for (const int type : {0, 1}) {
    if (ends.bos) add_token(model.bos_id, type);
    const Json text = {{"Sequence", {{"id", type == 0 ? "A" : "B"}, {"type_id", type}}}};
    if (type == 0) single.push_back(text);
    pair.push_back(text);
    if (ends.eos) add_token(model.eos_id, type);
  }
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", tokens}};
}

/// Behind a piece of the user's, the library begins a text anew, with a space in front; SentencePiece does
/// not.
bool begins_anew(const SentencePieceModel& model) {
  return model.add_dummy_prefix &&
         std::any_of(model.pieces.begin(), model.pieces.end(),
                     [](const auto& piece) { return piece.type == Type::user_defined; });
}

/// SentencePiece joins pieces to an unused one and cuts it up again; the library has no such pieces. Those
/// that fill a vocabulary up are never met.
bool meets_unused(const SentencePieceModel& model) {
  std::unordered_set<std::string_view> known;
  for (const auto& piece : model.pieces) {
    if (piece.type == Type::normal || piece.type == Type::unused) known.insert(piece.text);
  }
  return std::any_of(model.pieces.begin(), model.pieces.end(), [&](const auto& piece) {
    if (piece.type != Type::unused) return false;
    if (model.algorithm == Algorithm::unigram) return true;
    const std::string_view text = piece.text;
    for (size_t cut = 1; cut < text.size(); ++cut) {
      if (known.contains(text.substr(0, cut)) && known.contains(text.substr(cut))) return true;
    }
    return false;
  });
}

bool has_unknown(const SentencePieceModel& model) {
  return model.unk_id >= 0 && model.unk_id < static_cast<int64_t>(model.pieces.size());
}

std::string document(const SentencePieceModel& model, const SentencePieceEnds& ends, bool with_merges) {
  const Json json = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", added_tokens(model)},
                     {"normalizer", normalizer(model)},
                     {"pre_tokenizer", nullptr},
                     {"post_processor", post_processor(model, ends)},
                     {"decoder", decoder(model)},
                     {"model", algorithm_json(model, with_merges)}};
  return json.dump() + "\n";
}
}  // namespace

std::string tokenizer_json(const SentencePieceModel& model, const SentencePieceEnds& ends) {
  if (model.has_character_map || model.algorithm == Algorithm::word || model.remove_extra_whitespaces ||
      model.treat_whitespace_as_suffix || !model.escape_whitespaces || begins_anew(model) ||
      meets_unused(model) || !has_unknown(model)) {
    return "";
  }
  return document(model, ends, true);
}

bool is_tokenizer_json_of(const std::string& json, const SentencePieceModel& model) {
  constexpr std::string_view kAround = "\"post_processor\":", kBehind = ",\"decoder\":", kMerges = "]}}\n";
  if (!json.starts_with("{\"version\":") || !has_unknown(model)) return false;  // others begin otherwise
  const std::string whole = document(model, {}, false);
  const std::string_view text = whole;
  const size_t around = text.find(kAround) + kAround.size();
  std::string_view behind = text.substr(text.find(kBehind, around));
  if (model.algorithm == Algorithm::bpe) behind.remove_suffix(kMerges.size());  // which follow from the rest
  const size_t at = json.find(kBehind, around);
  return json.starts_with(text.substr(0, around)) && at != std::string::npos &&
         json.compare(at, behind.size(), behind) == 0;
}

}  // namespace llmtool
