#include "text/tokenizer_settings.h"

#include "llmtool/core/error.h"
#include "llmtool/io/files.h"
#include "llmtool/io/json.h"

namespace llmtool {

namespace {
using nlohmann::json;

/// A token as the files spell it: its text, or an object with its `content`.
void read_token(const JsonObject& o, const char* key, std::string& token) {
  if (!o.has(key)) return;
  const json& value = o.json().at(key);
  token = value.is_object() ? JsonObject(value, cat(o.origin(), ": ", key)).string("content") : o.string(key);
}

/// One template, or the one of this name of several.
std::string read_template(const JsonObject& o, const std::string& name) {
  if (!o.has("chat_template")) return "";
  const json& value = o.json().at("chat_template");
  if (!value.is_array()) return name == "default" ? o.string("chat_template") : "";
  for (size_t i = 0; i < value.size(); ++i) {
    const JsonObject named(value[i], cat(o.origin(), ": chat_template[", i, "]"));
    if (named.string("name") == name) return named.string("template");
  }
  return "";
}
}  // namespace

TokenizerSettings read_tokenizer_settings(std::map<std::string, std::string> files,
                                          const std::string& origin) {
  TokenizerSettings s;
  s.files = std::move(files);
  for (const char* name : {"special_tokens_map.json", "tokenizer_config.json"}) {
    const auto file = s.files.find(name);
    if (file == s.files.end()) continue;
    const std::string where = cat(origin, ": ", name);
    const json content = parse_json(file->second, where);
    const JsonObject o(content, where);
    read_token(o, "bos_token", s.bos);
    read_token(o, "eos_token", s.eos);
    read_token(o, "unk_token", s.unk);
    read_token(o, "pad_token", s.pad);
    read_token(o, "cls_token", s.cls);
    read_token(o, "sep_token", s.sep);
    read_token(o, "mask_token", s.mask);
    if (name != std::string("tokenizer_config.json")) continue;
    if (o.has("add_bos_token")) s.add_bos = o.boolean("add_bos_token", false);
    if (o.has("add_eos_token")) s.add_eos = o.boolean("add_eos_token", false);
    s.tokenizer_class = o.string("tokenizer_class", "");
    s.chat_template = read_template(o, "default");
    s.tool_template = read_template(o, "tool_use");
    s.config = content;
  }
  if (const auto file = s.files.find("chat_template.jinja"); file != s.files.end()) {
    s.chat_template = file->second;
    s.tool_template.clear();
  }
  if (const auto file = s.files.find("additional_chat_templates/tool_use.jinja"); file != s.files.end())
    s.tool_template = file->second;
  return s;
}

std::map<std::string, std::string> TokenizerSettings::named_tokens() const {
  std::map<std::string, std::string> tokens;
  const std::pair<const char*, const std::string*> named[] = {
      {"bos_token", &bos}, {"eos_token", &eos}, {"unk_token", &unk},  {"pad_token", &pad},
      {"cls_token", &cls}, {"sep_token", &sep}, {"mask_token", &mask}};
  for (const auto& [name, token] : named) {
    if (!token->empty()) tokens[name] = *token;
  }
  // Others that a model has for itself: "image_token", ...
  if (!config.is_object()) return tokens;
  for (const auto& [key, value] : config.items()) {
    if (!key.ends_with("_token") || tokens.contains(key)) continue;
    if (value.is_string()) tokens[key] = value.get<std::string>();
  }
  return tokens;
}

std::map<std::string, std::string> read_tokenizer_files(const std::filesystem::path& folder) {
  std::map<std::string, std::string> files;
  for (const char* name : {"tokenizer.json", "tokenizer.model", "tokenizer_config.json",
                           "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
                           "vocab.txt", "chat_template.jinja", "additional_chat_templates/tool_use.jinja"}) {
    if (std::filesystem::is_regular_file(folder / name)) files[name] = read_file(folder / name);
  }
  return files;
}

}  // namespace llmtool
