#include "llmtool/prompt/prompt_writer.h"

#include <algorithm>
#include <filesystem>

#include "data/messages.h"
#include "llmtool/core/error.h"
#include "llmtool/data/row_table.h"
#include "llmtool/io/files.h"
#include "llmtool/io/json.h"
#include "text/utf8.h"

namespace llmtool {

namespace {
using Json = nlohmann::ordered_json;

/// Without the line break that editors put at the end.
std::string read_template(const std::string& file) {
  if (!std::filesystem::is_regular_file(file))
    throw UsageError(cat("--template: ", file, ": expected a file with {column} slots, found none"));
  std::string text = read_file(file, size_t{1} << 20);
  if (const size_t good = utf8_valid_length(text); good < text.size())
    throw UsageError(cat("--template: ", file, ": expected UTF-8, found other bytes at byte ", good + 1));
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  return text;
}

/// The column named, or the one that is there of those that usually hold answers.
std::string answer_of(const Json& row, const std::string& column, const std::string& origin) {
  std::vector<std::string> there;
  for (const char* name : {"completion", "output", "answer", "response", "label"}) {
    if (column.empty() && row.contains(name)) there.emplace_back(name);
  }
  if (!column.empty() && row.contains(column)) there = {column};
  if (there.size() > 1)
    throw UsageError(cat(origin, ": expected one column that may hold the answer, found ", there[0], " and ",
                         there[1], "; --shot-answer says which it is"));
  if (there.empty())
    throw Error(
        cat(origin, ": expected an answer in ",
            column.empty()
                ? "a column completion, output, answer, response or label (--shot-answer names another)"
                : "the column " + column,
            ", found ", columns_of(row)));
  const Json& value = row[there[0]];
  std::string answer = value.is_null() ? "" : text_of(value, there[0].c_str(), origin);
  if (answer.find_first_not_of(" \t\r\n") == std::string::npos)
    throw Error(cat(origin, ": ", there[0], ": expected an example's answer, found ",
                    value.is_null() ? "null" : "an empty one"));
  return answer;
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
  if (settings.shots.empty()) return;
  constexpr int64_t kUsual = 4;
  std::vector<Shot> shots = read_shots();
  const int64_t count = settings.num_shots.value_or(std::min(kUsual, static_cast<int64_t>(shots.size())));
  selector_.emplace(std::move(shots), count, shot_selection(settings.shot_selection), settings.seed);
}

std::vector<Shot> PromptWriter::read_shots() const {
  const RowTable rows = RowTable::open(settings_.shots);
  if (rows.size() == 0) throw UsageError(cat(settings_.shots, ": expected examples, found none"));
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
