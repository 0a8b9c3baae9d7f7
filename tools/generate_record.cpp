#include "generate_record.h"

#include <unistd.h>

#include <filesystem>
#include <utility>

#include "llmtool/core/error.h"
#include "llmtool/io/files.h"

namespace llmtool {

namespace {
/// A file can be begun there, as far as can be told before.
void check_folder(const std::filesystem::path& file) {
  const std::filesystem::path folder = std::filesystem::absolute(file).parent_path();
  if (!std::filesystem::is_directory(folder) || ::access(folder.c_str(), W_OK | X_OK) != 0)
    throw Error(cat(file.string(), ": cannot be created: expected a folder that can be written, found ",
                    std::filesystem::exists(folder) ? "another one" : "none", ": ", folder.string()));
}
}  // namespace

Recorder::Recorder(const std::string& database, const PromptSettings& prompt, Variant model, Json settings,
                   bool held)
    : database_(database), formed_(held) {
  // What is there must do; a file is begun with the first answer, so that a run without one leaves nothing.
  if (std::filesystem::exists(database)) {
    store();
  } else {
    check_folder(database);
  }
  const bool of_file = !prompt.template_file.empty();
  const std::string whole = "{" + prompt.field + "}";  // the template that a plain prompt amounts to
  common_.template_id.name =
      of_file ? std::filesystem::path(prompt.template_file).filename().string() : whole;
  common_.template_text = of_file ? read_file(prompt.template_file) : whole;
  common_.model = std::move(model);
  common_.settings = std::move(settings);
}

RecordStore& Recorder::store() {
  if (!store_) store_.emplace(database_, RecordStore::Mode::create);
  return *store_;
}

Record Recorder::record_of(const GenerationResult& result, Json input) const {
  Record record = common_;
  record.input = std::move(input);
  record.prompt = result.prompt;
  record.response = result.text;
  record.sample = result.sample;
  record.tokens = static_cast<int64_t>(result.ids.size());
  record.finish_reason = result.finish_reason;
  if (formed_) record.complete = result.complete;
  return record;
}

void Recorder::add(const GenerationResult& result, Json input) {
  store().add(record_of(result, std::move(input)));
}

void Recorder::hold(const GenerationResult& result, Json input, int64_t equal) {
  held_.push_back({record_of(result, std::move(input)), equal});
}

void Recorder::expect_known(const std::string& since, int64_t most) {
  maybe_known_ = most;
  since_ = since;
  until_ = utc_now();
}

/// Rows may repeat: the table's records beyond those of its rows are the ones that were recorded without
/// theirs. They come one behind the other, so that behind the first that is new all are.
bool Recorder::is_known(const Held& held) {
  const bool known = maybe_known_ > 0 && store().count(held.record, since_, until_) > held.equal;
  maybe_known_ = known ? maybe_known_ - 1 : 0;
  return known;
}

void Recorder::write() {
  std::vector<Record> records;
  for (Held& held : std::exchange(held_, {})) {
    if (!is_known(held)) records.push_back(std::move(held.record));
  }
  if (!records.empty()) store().add(records);
}

}  // namespace llmtool
