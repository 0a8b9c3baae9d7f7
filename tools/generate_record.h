#pragma once
// --record: answers into a database of what was asked.

#include <nlohmann/json.hpp>
#include <string>

#include "llmtool/infer/generator.h"
#include "llmtool/prompt/prompt_writer.h"
#include "llmtool/records/record_store.h"

namespace llmtool {

/// Each answer is on the disk when add() returns. Other processes may write to the same database.
class Recorder {
 public:
  using Json = nlohmann::ordered_json;

  /// `settings`: what the answers depend on beside model and template. Throws Error where the database cannot
  /// be used.
  Recorder(const std::string& database, const PromptSettings& prompt, Variant model, Json settings);

  /// `input`: the row that was asked, or its text; of a conversation a row with its messages.
  void add(const GenerationResult& result, Json input);

 private:
  RecordStore store_;
  Record common_;
};

}  // namespace llmtool
