#include "data/row_shape.h"

#include <utility>

#include "data/messages.h"
#include "llmtool/core/error.h"
#include "llmtool/io/json.h"

namespace llmtool {

using Json = nlohmann::ordered_json;

/// A row under our names for its columns.
struct RowShapes::Columns {
  const Json& row;
  const std::string& origin;
  const FieldNames& fields;

  const Json* find(const std::string& mapped, const char* name) const {
    const auto at = row.find(mapped.empty() ? name : mapped.c_str());
    return at == row.end() || at->is_null() ? nullptr : &*at;
  }
  std::string text(const Json& value, const char* name) const { return text_of(value, name, origin); }
  std::string text(const std::string& mapped, const char* name) const {
    const Json* value = find(mapped, name);
    return value ? text(*value, name) : "";
  }
  /// Tools and template settings that stand beside a conversation.
  void add_context(Json& context) const {
    if (const Json* tools = find(fields.tools, "tools"))
      context["tools"] = tools_of(*tools, origin + ": tools");
    const Json* settings = find("", "chat_template_kwargs");
    if (!settings) return;
    if (!settings->is_object())
      throw Error(cat(origin, ": chat_template_kwargs: expected an object, found ",
                      shown(nlohmann::json(*settings))));
    for (const auto& [key, value] : settings->items()) {
      if (key != "messages") context[key] = value;
    }
  }
};

namespace {
Json say(const char* role, const std::string& text) { return Json{{"role", role}, {"content", text}}; }

/// Earlier pairs of question and answer, [["...", "..."], ...].
std::vector<std::pair<std::string, std::string>> history_of(const Json& value, const std::string& origin) {
  const Json list =
      value.is_string() && value != "" ? parse_ordered_json(value.get<std::string>(), origin) : value;
  std::vector<std::pair<std::string, std::string>> turns;
  if (list == "") return turns;
  for (const Json& turn : list) {
    if (!turn.is_array() || turn.size() != 2 || !turn[0].is_string() || !turn[1].is_string())
      throw Error(
          cat(origin, ": expected a list of [instruction, answer], found ", shown(nlohmann::json(value))));
    turns.emplace_back(turn[0].get<std::string>(), turn[1].get<std::string>());
  }
  return turns;
}

/// The prompt of Stanford Alpaca (github.com/tatsu-lab/stanford_alpaca, "Data Release"); a system's message
/// takes the place of its opening sentence, and earlier turns stand in front of the last.
std::string alpaca_prompt(const std::string& system, const std::string& instruction, const std::string& input,
                          const std::vector<std::pair<std::string, std::string>>& history) {
  std::string prompt = system;
  if (prompt.empty()) {
    prompt = "Below is an instruction that describes a task";
    prompt += input.empty() ? ". " : ", paired with an input that provides further context. ";
    prompt += "Write a response that appropriately completes the request.";
  }
  prompt += "\n\n";
  for (const auto& [question, answer] : history)
    prompt += cat("### Instruction:\n", question, "\n\n### Response:", answer, "\n\n");
  prompt += cat("### Instruction:\n", instruction, "\n\n");
  if (!input.empty()) prompt += cat("### Input:\n", input, "\n\n");
  return prompt + "### Response:";
}

Sample pair_of(std::string prompt, std::string completion) {
  Sample sample;
  sample.kind = Sample::Kind::pair;
  sample.prompt = std::move(prompt);
  sample.completion = std::move(completion);
  return sample;
}
}  // namespace

RowShapes::RowShapes(const ExampleConfig& config, bool has_chat_template)
    : config_(config), prompt_(config.prompt_template), has_chat_template_(has_chat_template) {}

Sample RowShapes::of_messages(const Columns& columns, const Json& messages) const {
  Sample sample;
  sample.kind = Sample::Kind::chat;
  Json list = messages_of(messages, columns.origin);
  const std::string system = columns.text(columns.fields.system, "system");
  if (!system.empty() && (list.empty() || list[0]["role"] != "system"))
    list.insert(list.begin(), say("system", system));
  sample.context = Json{{"messages", std::move(list)}};
  columns.add_context(sample.context);
  return sample;
}

Sample RowShapes::of_pair(const Columns& columns) const {
  const Json& prompt = *columns.find(columns.fields.prompt, "prompt");
  const Json& completion = *columns.find(columns.fields.completion, "completion");
  if (!prompt.is_array() && !completion.is_array())
    return pair_of(columns.text(prompt, "prompt"), columns.text(completion, "completion"));
  if (!prompt.is_array() || !completion.is_array())
    throw Error(columns.origin +
                ": expected prompt and completion to be both texts or both lists of messages");
  Json messages = messages_of(prompt, columns.origin + ": prompt");
  const size_t count = messages.size();
  for (Json& message : messages_of(completion, columns.origin + ": completion"))
    messages.push_back(std::move(message));
  Sample sample = of_messages(columns, messages);
  sample.prompt_messages = count + sample.context["messages"].size() - messages.size();
  return sample;
}

Sample RowShapes::of_alpaca(const Columns& columns) const {
  const FieldNames& f = columns.fields;
  const std::string instruction = columns.text(f.instruction, "instruction"),
                    input = columns.text(f.input, "input"), system = columns.text(f.system, "system"),
                    output = columns.text(f.output, "output");
  const Json* history = columns.find(f.history, "history");
  const auto turns = history ? history_of(*history, columns.origin + ": history")
                             : std::vector<std::pair<std::string, std::string>>();
  if (!has_chat_template_) return pair_of(alpaca_prompt(system, instruction, input, turns), output);
  Json messages = Json::array();
  for (const auto& [question, answer] : turns) {
    messages.push_back(say("user", question));
    messages.push_back(say("assistant", answer));
  }
  messages.push_back(say("user", input.empty() ? instruction : cat(instruction, "\n", input)));
  messages.push_back(say("assistant", output));
  return of_messages(columns, messages);  // which puts the system's message in front
}

/// A label that is written behind its prompt.
Sample RowShapes::of_label_text(const Columns& columns) const {
  if (!prompt_.empty()) return pair_of(prompt_.fill(columns.row, columns.origin), label_of(columns));
  const Json* prompt = columns.find(columns.fields.prompt, "prompt");
  if (!prompt)
    throw Error(cat(columns.origin, ": expected a column ", columns.fields.prompt,
                    ", which data.fields.prompt names, found ", columns_of(columns.row)));
  return pair_of(columns.text(*prompt, columns.fields.prompt.c_str()), label_of(columns));
}

Sample RowShapes::of_template(const Columns& columns) const {
  const FieldNames& f = columns.fields;
  const std::string prompt = prompt_.fill(columns.row, columns.origin);
  const Json* completion = columns.find(f.completion, "completion");
  if (!completion) completion = columns.find(f.output, "output");
  if (!completion)
    throw Error(cat(columns.origin,
                    ": expected a column completion or output behind the prompt template (data.fields says "
                    "which other one it is), found ",
                    columns_of(columns.row)));
  return pair_of(prompt, columns.text(*completion, "completion"));
}

std::string RowShapes::label_of(const Columns& columns) const {
  const auto at = columns.row.find(config_.label_column);
  if (at == columns.row.end() || at->is_null())
    throw Error(cat(columns.origin, ": data.label_column: expected a label in column ", config_.label_column,
                    ", found ", at == columns.row.end() ? columns_of(columns.row) : "null"));
  const auto whole = exact_integer(nlohmann::json(*at), INT64_MIN, INT64_MAX);
  const std::string value = whole ? std::to_string(*whole) : columns.text(*at, config_.label_column.c_str());
  if (value.find_first_not_of(" \t\r\n") == std::string::npos)
    throw Error(cat(columns.origin, ": data.label_column: expected a label in column ", config_.label_column,
                    ", found an empty one"));
  if (config_.labels.empty()) return value;
  // A name, or the place of one.
  for (size_t i = 0; i < config_.labels.size(); ++i) {
    if (config_.labels[i] == value) return value;
  }
  for (size_t i = 0; i < config_.labels.size(); ++i) {
    if (std::to_string(i) == value) return config_.labels[i];
  }
  throw Error(cat(columns.origin, ": label ", value, " is none of the ", config_.labels.size(),
                  " labels (of data.labels or else the model's own), nor the number of one (from 0)"));
}

Sample RowShapes::of_label(const Columns& columns) const {
  Sample sample;
  sample.label = label_of(columns);
  if (!prompt_.empty()) {
    sample.completion = prompt_.fill(columns.row, columns.origin);
    return sample;
  }
  const Json* text = columns.find(columns.fields.text, "text");
  int others = 0;
  for (const auto& [name, value] : columns.row.items()) {
    if (text || !value.is_string() || name == config_.label_column) continue;
    sample.completion = value.get<std::string>();
    ++others;
  }
  if (text) sample.completion = columns.text(*text, "text");
  if (!text && others != 1)
    throw Error(cat(columns.origin, ": expected a column text, or one with texts beside the label (",
                    config_.label_column, "), found ", columns_of(columns.row),
                    "; data.fields.text or data.prompt_template says what is classified"));
  return sample;
}

Sample RowShapes::read(const Json& row, const std::string& origin) const {
  const Columns columns{row, origin, config_.fields};
  const FieldNames& f = config_.fields;
  if (config_.classifies()) return of_label(columns);
  if (!config_.label_column.empty()) return of_label_text(columns);
  if (!prompt_.empty()) return of_template(columns);
  const Json* messages = columns.find(f.messages, "messages");
  if (!messages && f.messages.empty()) messages = columns.find("", "conversations");
  if (messages) return of_messages(columns, *messages);
  if (columns.find(f.prompt, "prompt") && columns.find(f.completion, "completion")) return of_pair(columns);
  if (columns.find(f.instruction, "instruction") && columns.find(f.output, "output"))
    return of_alpaca(columns);
  if (const Json* text = columns.find(f.text, "text")) {
    Sample sample;
    sample.completion = columns.text(*text, "text");
    return sample;
  }
  for (const std::string* name :
       {&f.text, &f.prompt, &f.completion, &f.messages, &f.instruction, &f.output}) {
    const auto at = name->empty() ? row.end() : row.find(*name);
    if (!name->empty() && (at == row.end() || at->is_null()))
      throw Error(cat(origin, ": expected a column ", *name, ", which data.fields names, found ",
                      at == row.end() ? columns_of(row) : "null in it"));
  }
  if (row.contains("chosen") && row.contains("rejected"))
    throw Error(cat(origin,
                    ": a preference pair (chosen, rejected) is for preference training, which is not there "
                    "yet; `llmtool records export --to finetune` writes rows with prompt and completion"));
  throw Error(cat(origin, ": a row with ", columns_of(row),
                  " is of no known shape: expected text; prompt and completion; instruction and output; "
                  "messages; or conversations. data.fields maps other names to these, data.prompt_template "
                  "makes a prompt of any columns"));
}

}  // namespace llmtool
