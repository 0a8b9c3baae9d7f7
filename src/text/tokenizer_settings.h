#pragma once
// What lies beside a tokenizer in a model folder: tokenizer_config.json and its like.

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace llmtool {

struct TokenizerSettings {
  std::map<std::string, std::string> files;  // all of the tokenizer's files, by name
  std::string bos, eos, unk, pad;            // tokens; "" where nothing is said
  std::string cls, sep, mask;
  std::optional<bool> add_bos, add_eos;
  std::string tokenizer_class, chat_template, tool_template;  // tool_template: "" where it is the same
  nlohmann::json config = nlohmann::json::object();           // tokenizer_config.json

  const std::string& template_for(bool with_tools) const {
    return with_tools && !tool_template.empty() ? tool_template : chat_template;
  }
  std::map<std::string, std::string> named_tokens() const;
};

/// Throws Error naming the file and the key.
TokenizerSettings read_tokenizer_settings(std::map<std::string, std::string> files,
                                          const std::string& origin);
/// The tokenizer's files in a folder.
std::map<std::string, std::string> read_tokenizer_files(const std::filesystem::path& folder);

}  // namespace llmtool
