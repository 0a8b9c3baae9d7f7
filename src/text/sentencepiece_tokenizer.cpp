#include "text/sentencepiece_tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "llmtool/core/error.h"
#include "llmtool/io/files.h"
#include "llmtool/io/json.h"
#include "text/utf8.h"

namespace llmtool {

namespace {
namespace fs = std::filesystem;
using Type = SentencePieceModel::Type;
constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581 stands for a space in pieces

std::span<const std::byte> as_bytes(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}
}  // namespace

SentencePieceTokenizer::SentencePieceTokenizer(std::string bytes, const std::string& origin,
                                               TokenizerSettings settings, bool parse_special)
    : bytes_(std::move(bytes)),
      settings_(std::move(settings)),
      model_(read_sentencepiece_model(bytes_, origin)),
      hash_(hash64(as_bytes(bytes_))),
      adds_bos_(bos_id() >= 0 && settings_.add_bos.value_or(true)),
      adds_eos_(eos_id() >= 0 && settings_.add_eos.value_or(false)),
      parse_special_(parse_special) {
  const auto status = processor_.LoadFromSerializedProto(bytes_);
  if (!status.ok()) throw Error(cat(origin, ": ", status.message()));
  for (size_t i = 0; i < model_.pieces.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    const std::string& text = model_.pieces[i].text;
    if (is_special(id)) special_.add({.id = id, .content = text, .special = true}, text);
    if (text == "\n" && model_.pieces[i].type == Type::user_defined) newline_ = id;
  }
}

const SentencePieceModel::Piece& SentencePieceTokenizer::at(TokenId id) const {
  if (id < 0 || id >= vocab_size()) {
    throw Error(cat("[tokenizer] expected an id from 0 to ", vocab_size() - 1, ", found ", id));
  }
  return model_.pieces[static_cast<size_t>(id)];
}

bool SentencePieceTokenizer::is_special(TokenId id) const {
  return at(id).type == Type::control || at(id).type == Type::unknown;
}

TokenId SentencePieceTokenizer::special(int64_t id) const {
  return id >= 0 && id < vocab_size() ? static_cast<TokenId>(id) : -1;
}

void SentencePieceTokenizer::append_ids(std::string_view text, std::vector<TokenId>& ids) const {
  if (text.empty()) return;
  std::vector<int> found;
  const auto status = processor_.Encode(text, &found);
  if (!status.ok()) throw Error(cat("[tokenizer] ", status.message()));
  ids.insert(ids.end(), found.begin(), found.end());
}

void SentencePieceTokenizer::append_part(std::string_view text, std::vector<TokenId>& ids) const {
  if (newline_ < 0 || model_.add_dummy_prefix || model_.remove_extra_whitespaces)
    return append_ids(text, ids);
  // A line break is a piece of its own that no other contains: line by line, which word models need.
  for (size_t from = 0; from <= text.size();) {
    const size_t end = std::min(text.find('\n', from), text.size());
    append_ids(text.substr(from, end - from), ids);
    if (end < text.size()) ids.push_back(newline_);
    from = end + 1;
  }
}

void SentencePieceTokenizer::append_rest(std::string_view text, std::vector<TokenId>& ids) const {
  if (!model_.add_dummy_prefix || model_.treat_whitespace_as_suffix) return append_part(text, ids);
  // A line break in front takes the place of the text's start; what it adds is cut off again.
  std::string padded("\n");
  std::vector<TokenId> extra, found;
  append_part(padded, extra);
  padded.append(text);
  append_part(padded, found);
  ids.insert(ids.end(), found.begin() + static_cast<int64_t>(std::min(extra.size(), found.size())),
             found.end());
}

std::vector<TokenId> SentencePieceTokenizer::encode(std::string_view text,
                                                    const EncodeOptions& options) const {
  std::vector<TokenId> ids;
  if (options.add_special_tokens && !options.continues && adds_bos_) ids.push_back(bos_id());
  const auto append = [&](std::string_view part) {
    if (options.continues && part.data() == text.data()) {
      append_rest(part, ids);
    } else {
      append_part(part, ids);
    }
  };
  if (options.parse_special.value_or(parse_special_)) {
    special_.cut(text, true, [&](std::string_view part, const AddedToken* token) {
      if (token) {
        ids.push_back(token->id);
      } else {
        append(part);
      }
    });
  } else {
    append(text);
  }
  if (options.add_special_tokens && !options.unfinished && adds_eos_) ids.push_back(eos_id());
  return ids;
}

std::string SentencePieceTokenizer::kind() const {
  switch (model_.algorithm) {
    case SentencePieceModel::Algorithm::unigram:
      return "SentencePiece unigram";
    case SentencePieceModel::Algorithm::bpe:
      return "SentencePiece BPE";
    case SentencePieceModel::Algorithm::word:
      return "SentencePiece word";
    default:
      return "SentencePiece char";
  }
}

TokenId SentencePieceTokenizer::find(std::string_view piece) const {
  const TokenId id = processor_.PieceToId(piece);
  return id >= 0 && id < vocab_size() && at(id).text == piece ? id : -1;
}

std::string SentencePieceTokenizer::surface(TokenId id, bool at_start) const {
  const auto& piece = at(id);
  switch (piece.type) {
    case Type::control:
      return "";
    case Type::unknown:
      return model_.unk_surface;
    case Type::byte:
      return std::string(1, static_cast<char>(std::stoi(piece.text.substr(3, 2), nullptr, 16)));
    default:
      break;
  }
  std::string_view rest = piece.text;
  if (at_start && (model_.add_dummy_prefix || model_.remove_extra_whitespaces) && rest.starts_with(kSpace)) {
    rest.remove_prefix(kSpace.size());
  }
  std::string text;
  while (!rest.empty()) {
    const size_t space = rest.find(kSpace);
    text += rest.substr(0, space);
    if (space == std::string_view::npos) break;
    text += ' ';
    rest.remove_prefix(space + kSpace.size());
  }
  return text;
}

std::string SentencePieceTokenizer::config(const std::string& json) const {
  constexpr const char* kClass = "tokenizer_class";
  // Where there is a tokenizer.json it is taken as it is: other classes build it anew, and otherwise.
  const char* const name_of_class = json.empty() ? "LlamaTokenizer" : "PreTrainedTokenizerFast";
  if (const auto given = settings_.files.find("tokenizer_config.json"); given != settings_.files.end()) {
    auto config = parse_ordered_json(given->second, "tokenizer_config.json");
    if (!config.is_object() || (config.contains(kClass) && (json.empty() || config[kClass] == name_of_class)))
      return given->second;
    config[kClass] = name_of_class;
    return config.dump(2) + "\n";
  }
  nlohmann::ordered_json config = {{kClass, name_of_class},
                                   {"add_bos_token", adds_bos_},
                                   {"add_eos_token", adds_eos_},
                                   {"clean_up_tokenization_spaces", false},
                                   {"model_max_length", 1000000000}};
  const auto name = [&](const char* key, TokenId id) {
    if (id >= 0) config[key] = piece(id);
  };
  name("bos_token", bos_id() >= 0 ? bos_id() : eos_id());
  name("eos_token", eos_id());
  name("unk_token", unk_id());
  name("pad_token", pad_id());
  return config.dump(2) + "\n";
}

void SentencePieceTokenizer::save(const fs::path& folder) const {
  std::map<std::string, std::string> files = settings_.files;
  files["tokenizer.model"] = bytes_;
  files["tokenizer.json"] = json();
  files["tokenizer_config.json"] = config(files["tokenizer.json"]);
  if (files["tokenizer.json"].empty()) files.erase("tokenizer.json");
  for (const auto& [name, content] : files) {
    fs::create_directories((folder / name).parent_path());
    write_file(folder / name, content);
  }
}

}  // namespace llmtool
