#include "generate_record.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <span>
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

void Recorder::hold(const GenerationResult& result, Json input) {
  held_.push_back(record_of(result, std::move(input)));
}

void Recorder::write() {
  const std::vector<Record> records = std::exchange(held_, {});
  const auto known = std::min(records.size(), static_cast<size_t>(maybe_known_));
  if (known > 0) store().import(std::span(records).first(known));
  if (known < records.size()) store().add(std::span(records).subspan(known));
  maybe_known_ -= static_cast<int64_t>(known);
}

}  // namespace llmtool
