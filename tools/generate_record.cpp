#include "generate_record.h"

#include "llmtool/io/files.h"

namespace llmtool {

Recorder::Recorder(const std::string& database, const PromptSettings& prompt, Variant model, Json settings)
    : store_(database, RecordStore::Mode::create) {
  const bool of_file = !prompt.template_file.empty();
  const std::string whole = "{" + prompt.field + "}";  // the template that a plain prompt amounts to
  common_.template_id.name = of_file ? prompt.template_file : whole;
  common_.template_text = of_file ? read_file(prompt.template_file) : whole;
  common_.model = std::move(model);
  common_.settings = std::move(settings);
}

void Recorder::add(const GenerationResult& result, Json input) {
  Record record = common_;
  record.input = std::move(input);
  record.prompt = result.prompt;
  record.response = result.text;
  record.sample = result.sample;
  record.tokens = static_cast<int64_t>(result.ids.size());
  record.finish_reason = result.finish_reason;
  store_.add(record);
}

}  // namespace llmtool
