// A SentencePiece model as tokenizer.json.

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "text/sentencepiece_tokenizer.h"
#include "text/utf8.h"

namespace llmtool {

namespace {
using Json = nlohmann::ordered_json;
using Algorithm = SentencePieceModel::Algorithm;
using Type = SentencePieceModel::Type;
constexpr const char* kSpace = "\xE2\x96\x81";

Json vocabulary(const SentencePieceModel& model) {
  Json vocab = Json::object();
  for (size_t id = 0; id < model.pieces.size(); ++id) vocab[model.pieces[id].text] = id;
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

Json algorithm_json(const SentencePieceModel& model) {
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
          {"merges", model.algorithm == Algorithm::bpe ? merges(model) : Json::array()}};
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
                    {"normalized", piece.text.find(kSpace) != std::string::npos},
                    {"special", special}});
  }
  return list;
}

Json replace(const char* from, const char* to) {
  return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}
}  // namespace

std::string tokenizer_json(const SentencePieceModel& model) {
  if (model.has_character_map || model.algorithm == Algorithm::word || model.remove_extra_whitespaces ||
      model.add_dummy_prefix || model.treat_whitespace_as_suffix || model.unk_id < 0 ||
      model.unk_id >= static_cast<int64_t>(model.pieces.size())) {
    return "";
  }
  Json decoders = Json::array({replace(kSpace, " ")});
  if (model.byte_fallback) decoders.push_back({{"type", "ByteFallback"}});
  decoders.push_back({{"type", "Fuse"}});
  const Json json = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", added_tokens(model)},
                     {"normalizer", replace(" ", kSpace)},
                     {"pre_tokenizer", nullptr},
                     {"post_processor", nullptr},
                     {"decoder", {{"type", "Sequence"}, {"decoders", decoders}}},
                     {"model", algorithm_json(model)}};
  return json.dump() + "\n";
}

}  // namespace llmtool
