#include <fstream>
#include <iostream>

#include "llmtool/core/error.h"
#include "llmtool/io/json.h"
#include "llmtool/text/chat_template.h"
#include "tokenize_text.h"

namespace llmtool {

namespace {
/// What a template sees: the row, and the tokenizer's special tokens.
nlohmann::ordered_json context_of(const std::string& line, const std::string& where,
                                  const Tokenizer& tokenizer) {
  nlohmann::ordered_json row = parse_ordered_json(line, where);
  if (!row.is_object() || !row.contains("messages"))
    throw Error(where + ": messages: expected a list of messages, found nothing");
  if (!row["messages"].is_array())
    throw Error(cat(where, ": messages: expected a list, found ",
                    shown(nlohmann::json::parse(row["messages"].dump()))));
  if (row.contains("continue_final_message") && row["continue_final_message"] != false)
    throw Error(where + ": continue_final_message is not supported");
  for (const auto& [name, token] : tokenizer.named_tokens()) {
    if (!row.contains(name)) row[name] = token;
  }
  return row;
}

class Templates {
 public:
  Templates(const Tokenizer& tokenizer, std::string origin)
      : tokenizer_(tokenizer), origin_(std::move(origin)) {}

  std::string render(const nlohmann::ordered_json& context, const std::string& where) {
    const bool tools = context.contains("tools") && context["tools"].is_array();
    std::unique_ptr<const ChatTemplate>& compiled = tools ? with_tools_ : plain_;
    if (!compiled) {
      const std::string& source = tokenizer_.chat_template(tools);
      if (source.empty())
        throw Error(
            origin_ +
            ": expected a chat template (chat_template.jinja, or chat_template of tokenizer_config.json: "
            "the one called default where these are several), found none");
      compiled = std::make_unique<const ChatTemplate>(source, origin_ + ": chat template");
    }
    try {
      return compiled->render(context);
    } catch (const Error& e) {
      throw Error(cat(where, ": ", e.what()));
    }
  }

 private:
  const Tokenizer& tokenizer_;
  std::string origin_;
  std::unique_ptr<const ChatTemplate> plain_, with_tools_;
};
}  // namespace

void print_rendered(const Tokenizer& tokenizer, const std::string& origin,
                    const std::vector<std::string>& given, bool json) {
  const std::vector<std::string> inputs = given.empty() ? std::vector<std::string>{"-"} : given;
  Templates templates(tokenizer, origin);
  for (const std::string& input : inputs) {
    std::ifstream file;
    if (input != "-") {
      file.open(input, std::ios::binary);
      if (!file) throw UsageError(input + ": cannot be opened");
    }
    std::istream& in = input == "-" ? std::cin : file;
    std::string line;
    for (int64_t number = 1; std::getline(in, line); ++number) {
      if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
      const std::string where = cat(input == "-" ? "standard input" : input, ": row ", number);
      const std::string text = templates.render(context_of(line, where, tokenizer), where);
      if (!json) {
        std::cout << text << "\n";
        continue;
      }
      const std::vector<TokenId> ids = tokenizer.encode(text, {.parse_special = true});
      std::cout << nlohmann::ordered_json{{"text", text}, {"ids", ids}}.dump() << "\n";
    }
  }
}

}  // namespace llmtool
