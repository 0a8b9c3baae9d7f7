#include "llmtool/prompt/prompt_writer.h"

#include <filesystem>

#include "data/messages.h"
#include "llmtool/core/error.h"
#include "llmtool/data/row_table.h"
#include "llmtool/io/files.h"
#include "llmtool/io/json.h"

namespace llmtool {

namespace {
using Json = nlohmann::ordered_json;

/// Without the line break that editors put at the end.
std::string read_template(const std::string& file) {
  if (!std::filesystem::is_regular_file(file))
    throw UsageError(cat("--template: ", file, ": expected a file with {column} slots, found none"));
  std::string text = read_file(file, size_t{1} << 20);
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  return text;
}

/// The column named, or the first that is there of those that usually hold answers.
std::string answer_of(const Json& row, const std::string& column, const std::string& origin) {
  static const char* const kUsual[] = {"completion", "output", "answer", "response", "label"};
  if (!column.empty() && row.contains(column)) return text_of(row[column], column, origin);
  for (const char* name : kUsual) {
    if (column.empty() && row.contains(name)) return text_of(row[name], name, origin);
  }
  throw Error(cat(origin, ": expected an answer in ",
                  column.empty()
                      ? "a column completion, output, answer, response or label (shot_answer names another)"
                      : "the column " + column,
                  ", found ", columns_of(row)));
}

bool blank(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

/// An example as text.
std::string joined(const Shot& shot) {
  const bool apart =
      shot.prompt.empty() || shot.answer.empty() || blank(shot.prompt.back()) || blank(shot.answer[0]);
  std::string text = shot.prompt;
  if (!apart) text += ' ';
  return text.append(shot.answer);
}
}  // namespace

PromptWriter::PromptWriter(const PromptSettings& settings, const Tokenizer* tokenizer)
    : settings_(settings), tokenizer_(tokenizer) {
  if (!settings.system.empty() && !settings.chat)
    throw UsageError(
        "--system: expected --chat beside it; a prompt without turns has its words in the --template");
  if (settings.chat && !tokenizer) throw UsageError("--chat: the model has no tokenizer");
  if (!settings.template_file.empty())
    template_.emplace(read_template(settings.template_file), settings.template_file);
  if (settings.chat) chat_.emplace(*tokenizer);
  if (!settings.shots.empty())
    selector_.emplace(read_shots(), settings.num_shots, shot_selection(settings.shot_selection),
                      settings.seed);
}

std::vector<Shot> PromptWriter::read_shots() const {
  const RowTable rows = RowTable::open(settings_.shots);
  std::vector<Shot> shots;
  for (int64_t i = 0; i < rows.size(); ++i) {
    const Json row = rows[i];
    shots.push_back(
        {text_of_row(row, rows.origin(i)), answer_of(row, settings_.shot_answer, rows.origin(i))});
  }
  return shots;
}

std::string PromptWriter::text_of_row(const Json& row, const std::string& origin) const {
  if (template_) return template_->fill(row, origin);
  const auto found = row.find(settings_.field);
  if (found == row.end() || !found->is_string())
    throw Error(cat(origin, ": ", settings_.field, ": expected a string, found ",
                    found == row.end()
                        ? cat("the columns ", columns_of(row), "; --template makes a prompt of them")
                        : shown(nlohmann::json(*found))));
  return found->get<std::string>();
}

Json PromptWriter::turns(const std::string& prompt, int64_t number) const {
  Json messages = Json::array();
  if (!settings_.system.empty()) messages.push_back({{"role", "system"}, {"content", settings_.system}});
  if (selector_) {
    for (const Shot* shot : selector_->select(prompt, number)) {
      messages.push_back({{"role", "user"}, {"content", shot->prompt}});
      messages.push_back({{"role", "assistant"}, {"content", shot->answer}});
    }
  }
  return messages;
}

Prompt PromptWriter::write(const Json& row, int64_t number, const std::string& origin) const {
  if (chat_ && !template_ && row.contains("messages")) {
    Json context = row;
    const Json given = messages_of(row["messages"], origin);
    Json messages = turns("", number);
    const bool has_system = !given.empty() && given[0].value("role", "") == "system";
    if (has_system && !settings_.system.empty()) messages.erase(0);
    if (has_system) messages.insert(messages.begin(), given[0]);
    messages.insert(messages.end(), given.begin() + (has_system ? 1 : 0), given.end());
    context["messages"] = std::move(messages);
    if (context.contains("tools")) context["tools"] = tools_of(context["tools"], origin);
    return chat_->write(std::move(context), origin);
  }
  std::string text = text_of_row(row, origin);
  if (chat_) {
    Json messages = turns(text, number);
    messages.push_back({{"role", "user"}, {"content", text}});
    Json context = Json::object();
    context["messages"] = std::move(messages);
    return chat_->write(std::move(context), origin);
  }
  Prompt prompt;
  if (selector_) {
    for (const Shot* shot : selector_->select(text, number))
      prompt.text += joined(*shot) + settings_.shot_separator;
  }
  prompt.text += text;
  if (!tokenizer_) throw UsageError(cat(origin, ": the model has no tokenizer: give prompt_ids"));
  prompt.ids = tokenizer_->encode(prompt.text, {.add_special_tokens = true});
  const TokenId start = tokenizer_->bos_id() >= 0 ? tokenizer_->bos_id() : tokenizer_->eos_id();
  if (prompt.ids.empty() && start >= 0) prompt.ids.push_back(start);
  return prompt;
}

Prompt PromptWriter::write_text(const std::string& text, int64_t number, const std::string& origin) const {
  Json row = Json::object();
  row[settings_.field] = text;
  return write(row, number, origin);
}

}  // namespace llmtool
