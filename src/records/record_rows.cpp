#include "llmtool/records/record_rows.h"

#include <algorithm>
#include <string_view>

#include "llmtool/core/error.h"
#include "llmtool/io/json.h"
#include "records/schema.h"

namespace llmtool {

namespace {
using Json = nlohmann::ordered_json;

/// What `generate` says beside the answer, which is no part of the question.
constexpr std::string_view kAboutAnswers[] = {
    "index",           "row",           "sample",     "prompt_ids",   "ids",       "finish_reason",
    "complete",        "logprobs",      "logprob",    "top_logprobs", "timings",   "tokens",
    "prompt_logprobs", "probabilities", "time",       "verdict",      "template",  "template_version",
    "template_text",   "model",         "model_hash", "settings",     "input_row", "settings_hash"};

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

/// A column that must be there.
const Json& needed(const Json& row, const std::string& key, const std::string& origin) {
  const Json* value = find(row, key);
  if (value) return *value;
  throw Error(cat(origin, ": ", key, ": expected a column of this name, found none"));
}

Record whole_record(const Json& row, const std::string& origin) {
  Record r;
  r.template_text = text_at(row, "template_text");
  r.prompt = plain_text(needed(row, "prompt", origin));
  r.response = plain_text(needed(row, "response", origin));
  if (const Json* input = find(row, "input")) r.input = *input;
  if (const Json* expected = find(row, "expected")) r.expected = plain_text(*expected);
  r.judged_by = text_at(row, "judged_by");
  r.judged_at = time_at(row, "judged_at", origin);
  return r;
}

Record table_record(const Json& row, const AnswerColumns& columns, const std::string& origin) {
  const std::string prompt = columns.prompt.empty() ? "prompt" : columns.prompt;
  std::string response = columns.response;
  for (const char* usual : {"response", "text", "choice"}) {
    if (response.empty() && find(row, usual)) response = usual;
  }
  if (response.empty()) response = "response";
  const std::string expected = columns.expected.empty() ? "expected" : columns.expected;
  Record r;
  r.prompt = plain_text(needed(row, prompt, origin));
  r.response = plain_text(needed(row, response, origin));
  if (const Json* value = columns.expected.empty() ? find(row, expected) : &needed(row, expected, origin))
    r.expected = plain_text(*value);
  for (const auto& [key, value] : row.items()) {
    if (key == prompt || key == response || key == expected) continue;
    if (std::find(std::begin(kAboutAnswers), std::end(kAboutAnswers), key) == std::end(kAboutAnswers))
      r.input[key] = value;
  }
  return r;
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

std::string plain_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  return value.is_null() ? "" : value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

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
          {"expected", r.expected ? Json(*r.expected) : Json()},
          {"verdict", r.verdict ? Json(verdict_name(*r.verdict)) : Json()},
          {"judged_by", or_null(r.judged_by)},
          {"judged_at", or_null(r.judged_at)}};
}

Record record_of_row(const Json& row, const AnswerColumns& columns, const std::string& origin) {
  // A column of an Alpaca table is called input, too: a whole record is known by the columns of its own.
  const bool whole =
      row.contains("template_version") && row.contains("settings_hash") && row.contains("input");
  Record r = whole ? whole_record(row, origin) : table_record(row, columns, origin);
  r.time = time_at(row, "time", origin);
  r.template_id = {text_at(row, "template"), text_at(row, "template_version")};
  r.template_text = text_at(row, "template_text");
  r.sample = count_at(row, "sample", origin).value_or(0);
  r.model = {text_at(row, "model"), text_at(row, "model_hash")};
  r.tokens = count_at(row, "tokens", origin);
  r.finish_reason = text_at(row, "finish_reason");
  if (const Json* settings = find(row, "settings"); settings && settings->is_object()) r.settings = *settings;
  if (const std::string verdict = text_at(row, "verdict"); !verdict.empty())
    r.verdict = verdict_named(verdict, origin);
  if (r.verdict && r.judged_by.empty()) r.judged_by = "import";
  return r;
}

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
