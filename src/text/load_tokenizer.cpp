// Which tokenizer a file or folder holds.

#include <functional>

#include "llmtool/core/error.h"
#include "llmtool/io/files.h"
#include "llmtool/io/gguf.h"
#include "llmtool/io/json.h"
#include "llmtool/text/gguf_vocabulary.h"
#include "text/pipeline_tokenizer.h"
#include "text/sentencepiece_tokenizer.h"
#include "text/tokenizer_documents.h"

namespace llmtool {

namespace {
namespace fs = std::filesystem;
using nlohmann::json;
using Loaded = std::shared_ptr<const Tokenizer>;

uint64_t hash_of(const std::string& bytes) {
  return hash64(std::as_bytes(std::span(bytes.data(), bytes.size())));
}

/// A tokenizer whose parts are a document's. The settings' files get it as tokenizer.json, if they have none.
Loaded of_document(const json& document, TokenizerSettings settings, const std::string& origin) {
  Pipeline pipeline = read_pipeline(document, origin);
  auto [file, fresh] = settings.files.try_emplace("tokenizer.json");
  if (fresh) file->second = text_of_document(document);
  const uint64_t hash = hash_of(file->second);
  return std::make_shared<PipelineTokenizer>(std::move(pipeline), std::move(settings), hash);
}

Loaded of_json(TokenizerSettings settings, const std::string& origin) {
  json document = parse_json(settings.files.at("tokenizer.json"), origin);
  if (document.is_object()) add_named_tokens(document, settings, origin);
  settings.add_bos = settings.add_eos =
      std::nullopt;  // the file's post-processor says what stands around a text
  return of_document(document, std::move(settings), origin);
}

Loaded of_tiktoken(const std::string& text, const std::string& name, TokenizerSettings settings,
                   const std::string& origin) {
  settings.files.erase("tokenizer.model");
  return std::make_shared<PipelineTokenizer>(pipeline_of_tiktoken(text, name, origin), std::move(settings),
                                             hash_of(text));
}

Loaded of_model_file(TokenizerSettings settings, const std::string& origin) {
  std::string bytes = settings.files.at("tokenizer.model");
  if (looks_like_tiktoken(bytes)) return of_tiktoken(bytes, "tokenizer", std::move(settings), origin);
  return std::make_shared<SentencePieceTokenizer>(std::move(bytes), origin, std::move(settings));
}

/// The tokenizer of a tokenizer.model that the tokenizer.json beside it was made of, and says less than; null
/// where there is none.
Loaded of_repeated_model(const TokenizerSettings& settings, const std::string& origin) {
  const auto model = settings.files.find("tokenizer.model");
  if (model == settings.files.end() || looks_like_tiktoken(model->second)) return nullptr;
  try {
    if (!is_tokenizer_json_of(settings.files.at("tokenizer.json"),
                              read_sentencepiece_model(model->second, origin)))
      return nullptr;
    return std::make_shared<SentencePieceTokenizer>(model->second, origin, settings);
  } catch (const Error&) {
    return nullptr;
  }
}

Loaded of_folder(const fs::path& folder, std::map<std::string, std::string> files) {
  const std::string origin = folder.string();
  TokenizerSettings settings = read_tokenizer_settings(std::move(files), origin);
  const auto has = [&](const char* name) { return settings.files.contains(name); };
  const auto inside = [&](const char* name) { return (folder / name).string(); };
  if (has("tokenizer.json")) {
    if (const Loaded repeated = of_repeated_model(settings, inside("tokenizer.model"))) return repeated;
    return of_json(std::move(settings), inside("tokenizer.json"));
  }
  if (has("tokenizer.model")) return of_model_file(std::move(settings), inside("tokenizer.model"));
  if (has("vocab.json") && has("merges.txt")) {
    settings = with_usual_tokens(std::move(settings));
    const json document = document_of_merges(settings, origin);
    return of_document(document, std::move(settings), origin);
  }
  const json document = document_of_word_list(settings, origin);
  return of_document(document, std::move(settings), inside("vocab.txt"));
}

/// Whether a folder holds a tokenizer, by whether it has a file of a name.
bool holds_tokenizer(const std::function<bool(const char*)>& has) {
  return has("tokenizer.json") || has("tokenizer.model") || has("vocab.txt") ||
         (has("vocab.json") && has("merges.txt"));
}

/// The one .tiktoken file of a folder; "" where there is none.
fs::path tiktoken_in(const fs::path& folder) {
  fs::path found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".tiktoken" || !entry.is_regular_file()) continue;
    if (!found.empty()) throw UsageError(cat(folder.string(), ": several .tiktoken files; name one"));
    found = entry.path();
  }
  return found;
}

/// A file by itself: what lies beside it gives names of special tokens and the chat template, no more.
Loaded of_file(const fs::path& path) {
  std::map<std::string, std::string> files = read_tokenizer_files(path.parent_path());
  for (const char* name : {"tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "vocab.txt"})
    files.erase(name);
  TokenizerSettings settings = read_tokenizer_settings(std::move(files), path.parent_path().string());
  std::string bytes = read_file(path);
  const std::string origin = path.string();
  if (looks_like_tiktoken(bytes))
    return of_tiktoken(bytes, path.stem().string(), std::move(settings), origin);
  if (path.extension() != ".json") {
    settings.files["tokenizer.model"] = bytes;
    return of_model_file(std::move(settings), origin);
  }
  settings.add_bos = settings.add_eos = std::nullopt;
  const json document = parse_json(bytes, origin);
  settings.files["tokenizer.json"] = std::move(bytes);
  return of_document(document, std::move(settings), origin);
}
}  // namespace

Loaded load_tokenizer(const fs::path& path) {
  if (!fs::exists(path)) throw UsageError(cat(path.string(), ": no such tokenizer file or folder"));
  if (!fs::is_directory(path))
    return path.extension() == ".gguf" ? tokenizer_of_gguf(GgufFile(path).metadata()) : of_file(path);
  std::map<std::string, std::string> files = read_tokenizer_files(path);
  if (holds_tokenizer([&](const char* name) { return files.contains(name); }))
    return of_folder(path, std::move(files));
  if (const fs::path ranks = tiktoken_in(path); !ranks.empty()) return of_file(ranks);
  if (fs::is_directory(path / "model") && has_tokenizer(path / "model"))
    return load_tokenizer(path / "model");  // a run folder
  throw UsageError(cat(path.string(),
                       ": expected tokenizer.json, tokenizer.model, vocab.json with merges.txt, "
                       "vocab.txt or a .tiktoken file in it, found none"));
}

Loaded tokenizer_of_gguf(const GgufMetadata& m) {
  TokenizerSettings settings =
      read_tokenizer_settings({{"tokenizer_config.json", settings_of_gguf(m)}}, m.origin());
  if (!is_sentencepiece(m)) return of_document(document_of_gguf(m), std::move(settings), m.origin());
  return std::make_shared<SentencePieceTokenizer>(sentencepiece_of_gguf(m), m.origin(), std::move(settings),
                                                  true);
}

std::shared_ptr<const Tokenizer> with_tokens(const std::shared_ptr<const Tokenizer>& tokenizer,
                                             const std::vector<std::string>& tokens) {
  std::vector<std::string> fresh;
  for (const std::string& token : tokens) {
    if (token.empty()) throw UsageError("tokenizer.add_tokens: expected texts, found an empty one");
    if (tokenizer->find(token) < 0 && std::find(fresh.begin(), fresh.end(), token) == fresh.end())
      fresh.push_back(token);
  }
  if (fresh.empty()) return tokenizer;
  const auto* const pieces = dynamic_cast<const SentencePieceTokenizer*>(tokenizer.get());
  const auto* const pipeline = dynamic_cast<const PipelineTokenizer*>(tokenizer.get());
  if (!pieces && !pipeline)
    throw Error(cat("tokenizer.add_tokens: a ", tokenizer->kind(), " tokenizer takes no more tokens"));
  TokenizerSettings settings = pieces ? pieces->settings() : pipeline->settings();
  std::string text = pieces ? pieces->json() : pipeline->json();
  if (pieces) settings.files["tokenizer_config.json"] = pieces->config(text);
  if (text.empty()) {  // what such a model does has no words in tokenizer.json
    const auto file = settings.files.find("tokenizer.json");
    if (file == settings.files.end())
      throw UsageError(
          "tokenizer.add_tokens: no tokenizer.json can say what this SentencePiece model does to a text, so "
          "that it takes no more tokens; give another tokenizer.path");
    text = file->second;
  }
  json document = parse_json(text, "tokenizer.json");
  for (const auto& [name, id] :
       {std::pair{&settings.bos, tokenizer->bos_id()}, {&settings.eos, tokenizer->eos_id()}}) {
    if (name->empty() && id >= 0) *name = tokenizer->piece(id);
  }
  int64_t id = tokenizer->vocab_size();
  for (const std::string& token : fresh) {
    document["added_tokens"].push_back({{"id", id++},
                                        {"content", token},
                                        {"single_word", false},
                                        {"lstrip", false},
                                        {"rstrip", false},
                                        {"normalized", false},
                                        {"special", false}});
  }
  // Files that say the vocabulary in another way would contradict.
  for (const char* file : {"tokenizer.model", "vocab.json", "merges.txt", "vocab.txt"})
    settings.files.erase(file);
  settings.files["tokenizer.json"] = text_of_document(document);
  return of_json(std::move(settings), "tokenizer.json");
}

bool has_tokenizer(const fs::path& path) {
  if (!fs::exists(path)) return false;
  if (!fs::is_directory(path))
    return path.extension() != ".gguf" || has_gguf_vocabulary(GgufFile(path).metadata());
  return holds_tokenizer([&](const char* name) { return fs::is_regular_file(path / name); }) ||
         !tiktoken_in(path).empty() || (fs::is_directory(path / "model") && has_tokenizer(path / "model"));
}

}  // namespace llmtool
