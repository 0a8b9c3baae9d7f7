#include "text/sentencepiece_tokenizer.h"

#include <algorithm>

#include "llmtool/core/error.h"
#include "llmtool/io/files.h"
#include "llmtool/io/json.h"
#include "llmtool/text/gguf_vocabulary.h"
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
                                               std::string settings)
    : bytes_(std::move(bytes)),
      settings_(std::move(settings)),
      model_(read_sentencepiece_model(bytes_, origin)),
      hash_(hash64(as_bytes(bytes_))),
      adds_bos_(bos_id() >= 0) {
  const auto status = processor_.LoadFromSerializedProto(bytes_);
  if (!status.ok()) throw Error(cat(origin, ": ", status.message()));
  if (!settings_.empty()) {
    const nlohmann::json json = parse_json(settings_, origin + ": tokenizer_config.json");
    adds_bos_ =
        JsonObject(json, "tokenizer_config.json").boolean("add_bos_token", adds_bos_) && bos_id() >= 0;
  }
  for (size_t id = 0; id < model_.pieces.size(); ++id) {
    if (model_.pieces[id].text == "\n" && model_.pieces[id].type == Type::user_defined) {
      newline_ = static_cast<TokenId>(id);
    }
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

std::vector<TokenId> SentencePieceTokenizer::encode(std::string_view text) const {
  std::vector<TokenId> ids;
  if (newline_ < 0 || model_.add_dummy_prefix || model_.remove_extra_whitespaces) {
    append_ids(text, ids);
    return ids;
  }
  // A line break is a piece of its own that no other contains: line by line, which word models need.
  for (size_t from = 0; from <= text.size();) {
    const size_t end = std::min(text.find('\n', from), text.size());
    append_ids(text.substr(from, end - from), ids);
    if (end < text.size()) ids.push_back(newline_);
    from = end + 1;
  }
  return ids;
}

std::vector<TokenId> SentencePieceTokenizer::encode_rest(std::string_view text) const {
  if (!model_.add_dummy_prefix || model_.treat_whitespace_as_suffix) return encode(text);
  // A line break in front takes the place of the text's start; what it adds is cut off again.
  std::string padded("\n");
  const size_t extra = encode(padded).size();
  padded.append(text);
  std::vector<TokenId> ids = encode(padded);
  ids.erase(ids.begin(), ids.begin() + static_cast<int64_t>(std::min(extra, ids.size())));
  return ids;
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

void SentencePieceTokenizer::save(const fs::path& folder) const {
  write_file(folder / "tokenizer.model", bytes_);
  const std::string json = tokenizer_json(model_);
  if (!json.empty()) write_file(folder / "tokenizer.json", json);
  if (!settings_.empty()) return write_file(folder / "tokenizer_config.json", settings_);
  nlohmann::ordered_json settings = {
      {"tokenizer_class", json.empty() ? "LlamaTokenizer" : "PreTrainedTokenizerFast"},
      {"add_bos_token", adds_bos_},
      {"add_eos_token", false},
      {"clean_up_tokenization_spaces", false},
      {"model_max_length", 1000000000}};
  const auto name = [&](const char* key, TokenId id) {
    if (id >= 0) settings[key] = piece(id);
  };
  name("bos_token", bos_id() >= 0 ? bos_id() : eos_id());
  name("eos_token", eos_id());
  name("unk_token", unk_id());
  name("pad_token", pad_id());
  write_file(folder / "tokenizer_config.json", settings.dump(2) + "\n");
}

std::shared_ptr<const Tokenizer> load_tokenizer(const fs::path& path) {
  fs::path file = path;
  if (fs::is_directory(path)) {
    file = path / "tokenizer.model";
    if (!fs::exists(file)) {
      if (fs::exists(path / "model" / "tokenizer.model"))
        return load_tokenizer(path / "model");  // a run folder
      throw UsageError(cat(path.string(), ": expected tokenizer.model in it, found none"));
    }
  }
  if (!fs::exists(file)) throw UsageError(cat(path.string(), ": no such tokenizer file or folder"));
  if (file.extension() == ".gguf") {
    const GgufFile gguf(file);
    return std::make_shared<SentencePieceTokenizer>(sentencepiece_of_gguf(gguf.metadata()), file.string(),
                                                    settings_of_gguf(gguf.metadata()));
  }
  const fs::path settings = file.parent_path() / "tokenizer_config.json";
  return std::make_shared<SentencePieceTokenizer>(read_file(file), file.string(),
                                                  fs::exists(settings) ? read_file(settings) : "");
}

}  // namespace llmtool
