#include "llmtool/records/record_rows.h"

#include <algorithm>
#include <string_view>

#include "llmtool/core/error.h"
#include "llmtool/io/json.h"
#include "llmtool/io/json_text.h"
#include "records/schema.h"

namespace llmtool {

namespace {
using Json = nlohmann::ordered_json;

/// Columns that `generate` writes. A table's own column of such a name has "input_" in front of it there.
constexpr std::string_view kOfAnswers[] = {"index",   "sample",        "prompt",         "response",
                                           "choice",  "finish_reason", "complete",       "error",
                                           "ids",     "logprobs",      "probabilities",  "top_logprobs",
                                           "timings", "prompt_ids",    "prompt_logprobs"};
bool is_of_answers(std::string_view name) {
  return std::find(std::begin(kOfAnswers), std::end(kOfAnswers), name) != std::end(kOfAnswers);
}

Json or_null(const std::string& text) { return text.empty() ? Json() : Json(text); }

const Json* find(const Json& row, const std::string& key) {
  const auto at = row.find(key);
  return at == row.end() || at->is_null() ? nullptr : &*at;
}

std::string text_at(const Json& row, const char* key) {
  const Json* value = find(row, key);
  return value ? plain_text(*value) : "";
}

std::optional<int64_t> count_at(const Json& row, const char* key, const std::string& origin) {
  const Json* value = find(row, key);
  if (!value || *value == "") return {};
  // Cells of CSV are strings.
  const nlohmann::json number = value->is_string()
                                    ? nlohmann::json::parse(value->get<std::string>(), nullptr, false)
                                    : nlohmann::json(*value);
  const auto count = exact_integer(number, 0, INT64_MAX);
  if (!count)
    throw Error(cat(origin, ": ", key, ": expected a count, found ", shown(nlohmann::json(*value))));
  return count;
}

/// true or false, of CSV as a text.
std::optional<bool> truth_at(const Json& row, const char* key, const std::string& origin) {
  const std::string text = text_at(row, key);
  if (text.empty()) return {};
  if (text == "true" || text == "false") return text == "true";
  throw Error(cat(origin, ": ", key, ": expected true or false, found ", shown(text)));
}

/// "2026-05-01T12:00:00Z", with or without a fraction.
std::string time_at(const Json& row, const char* key, const std::string& origin) {
  const std::string time = text_at(row, key);
  if (time.empty()) return time;
  constexpr std::string_view kPattern = "dddd-dd-ddTdd:dd:dd";
  bool good = time.size() > kPattern.size() && time.size() < 40 && time.back() == 'Z';
  for (size_t i = 0; good && i + 1 < time.size(); ++i) {
    const char expected = i < kPattern.size() ? kPattern[i] : i == kPattern.size() ? '.' : 'd';
    good = expected == 'd' ? time[i] >= '0' && time[i] <= '9' : time[i] == expected;
  }
  if (good) return time;
  throw Error(cat(origin, ": ", key, ": expected a time like 2026-05-01T12:00:00Z, found ", shown(time)));
}

/// A column that must be there; `flag` can name another, where there is one.
const Json& needed(const Json& row, const std::string& key, const std::string& origin, const char* flag) {
  const Json* value = find(row, key);
  if (value) return *value;
  throw Error(cat(origin, ": ", key, ": expected a column of this name, found none",
                  *flag ? cat("; ", flag, " names another") : ""));
}

Record whole_record(const Json& row, const std::string& origin) {
  Record r;
  r.time = time_at(row, "time", origin);
  r.template_id = {text_at(row, "template"), text_at(row, "template_version")};
  r.template_text = text_at(row, "template_text");
  r.prompt = plain_text(needed(row, "prompt", origin, ""));
  r.response = plain_text(needed(row, "response", origin, ""));
  if (const Json* input = find(row, "input")) r.input = *input;
  r.model = {text_at(row, "model"), text_at(row, "model_hash")};
  r.tokens = count_at(row, "tokens", origin);
  if (const Json* settings = find(row, "settings"); settings && settings->is_object()) r.settings = *settings;
  if (const Json* expected = find(row, "expected")) r.expected = plain_text(*expected);
  if (const std::string verdict = text_at(row, "verdict"); !verdict.empty())
    r.verdict = verdict_named(verdict, origin);
  r.judged_by = text_at(row, "judged_by");
  r.judged_at = time_at(row, "judged_at", origin);
  return r;
}

Record table_record(const Json& row, const AnswerColumns& columns, const std::string& origin) {
  const std::string prompt = columns.prompt.empty() ? "prompt" : columns.prompt;
  std::string response = columns.response;
  for (const char* usual : {"response", "choice", "text"}) {
    if (response.empty() && find(row, usual)) response = usual;
  }
  if (response.empty()) response = "response";
  const std::string expected = columns.expected.empty() ? "expected" : columns.expected;
  Record r;
  r.prompt = plain_text(needed(row, prompt, origin, "--prompt-column"));
  r.response = plain_text(needed(row, response, origin, "--response-column"));
  if (const Json* value = columns.expected.empty() ? find(row, expected)
                                                   : &needed(row, expected, origin, "--expected-column"))
    r.expected = plain_text(*value);
  for (const auto& [key, value] : row.items()) {
    if (key == prompt || key == response || key == expected) continue;
    constexpr std::string_view kRenamed = "input_";
    const bool renamed =
        key.starts_with(kRenamed) && is_of_answers(std::string_view(key).substr(kRenamed.size()));
    if (renamed)
      r.input[key.substr(kRenamed.size())] = value;
    else if (!is_of_answers(key))
      r.input[key] = value;
  }
  return r;
}

/// A column of an Alpaca table is called input, too: a whole record is known by the columns of its own, one
/// that others wrote by any of them beside an input of columns.
bool is_whole(const Json& row, const AnswerColumns& columns) {
  const auto input = row.find("input");
  if (input == row.end()) return false;
  if (row.contains("template_version") && row.contains("settings_hash")) return true;
  if (!input->is_object() || !(columns.prompt + columns.response + columns.expected).empty()) return false;
  constexpr const char* kOwn[] = {"template",      "template_version", "model_hash", "settings",
                                  "settings_hash", "verdict",          "judged_by"};
  return std::any_of(std::begin(kOwn), std::end(kOwn), [&](const char* name) { return row.contains(name); });
}

/// Words with one space between them, by which duplicates are found; fine-tuning's linter does so, too.
std::string words_of(const std::string& text) {
  std::string words;
  for (size_t at = 0; at < text.size();) {
    const size_t from = text.find_first_not_of(" \t\r\n", at);
    if (from == std::string::npos) break;
    at = std::min(text.find_first_of(" \t\r\n", from), text.size());
    if (!words.empty()) words += ' ';
    words.append(text, from, at - from);
  }
  return words;
}
}  // namespace

Json row_of_record(const Record& r) {
  return {{"id", r.id},
          {"time", r.time},
          {"template", or_null(r.template_id.name)},
          {"template_version", or_null(r.template_id.version)},
          {"template_text", or_null(r.template_text)},
          {"input", r.input},
          {"prompt", r.prompt},
          {"response", r.response},
          {"sample", r.sample},
          {"model", or_null(r.model.name)},
          {"model_hash", or_null(r.model.version)},
          {"settings", r.settings},
          {"settings_hash", or_null(r.settings_hash)},
          {"tokens", r.tokens ? Json(*r.tokens) : Json()},
          {"finish_reason", or_null(r.finish_reason)},
          {"complete", r.complete ? Json(*r.complete) : Json()},
          {"expected", r.expected ? Json(*r.expected) : Json()},
          {"verdict", r.verdict ? Json(verdict_name(*r.verdict)) : Json()},
          {"judged_by", or_null(r.judged_by)},
          {"judged_at", or_null(r.judged_at)}};
}

Record record_of_row(const Json& row, const AnswerColumns& columns, const std::string& origin) {
  Record r = is_whole(row, columns) ? whole_record(row, origin) : table_record(row, columns, origin);
  r.sample = count_at(row, "sample", origin).value_or(0);
  r.finish_reason = text_at(row, "finish_reason");
  r.complete = truth_at(row, "complete", origin);
  return r;
}

bool has_answer(const Json& row) { return text_at(row, "finish_reason") != "error"; }

namespace {
/// What should have come, with the white space that the answer itself began with: behind "The hen can" it is
/// " cluck", whatever a table of truth says.
std::string as_answered(const std::string& expected, const std::string& response) {
  constexpr const char* kSpace = " \t\r\n";
  if (expected.find_first_not_of(kSpace) != 0) return expected;
  return response.substr(0, std::min(response.find_first_not_of(kSpace), response.size())) + expected;
}
}  // namespace

std::optional<Json> ExampleRows::row(const Record& r) {
  const bool pairs = kind_ == Kind::preferences;
  const bool right = r.verdict == Verdict::right, wrong = r.verdict == Verdict::wrong;
  const std::string good = r.expected ? as_answered(*r.expected, r.response) : right ? r.response : "";
  if (pairs ? !wrong || !r.expected || words_of(*r.expected) == words_of(r.response)
            : !r.expected && !right) {
    ++counts_.unusable;
    return {};
  }
  const std::string prompt = words_of(r.prompt), completion = words_of(good);
  if (prompt.empty() || completion.empty()) {
    ++counts_.empty;
    return {};
  }
  const std::string rejected = pairs ? words_of(r.response) : "";
  if (!seen_.insert(Json({prompt, completion, rejected}).dump()).second) {
    ++counts_.duplicates;
    return {};
  }
  const auto [first, is_new] = completions_.emplace(prompt, completion);
  if (!is_new && first->second != completion && contradicted_.insert(prompt).second) ++counts_.contradictions;
  ++counts_.examples;
  if (pairs) return Json{{"prompt", r.prompt}, {"chosen", good}, {"rejected", r.response}};
  return Json{{"prompt", r.prompt}, {"completion", good}};
}

}  // namespace llmtool
