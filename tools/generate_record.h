#pragma once
// --record: answers into a database of what was asked.

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "llmtool/infer/generator.h"
#include "llmtool/prompt/prompt_writer.h"
#include "llmtool/records/record_store.h"

namespace llmtool {

/// Other processes may write to the same database.
class Recorder {
 public:
  using Json = nlohmann::ordered_json;

  /// `held`: answers are held to a form. `settings`: what they depend on beside model and template. Throws
  /// Error where the database cannot be used.
  Recorder(const std::string& database, const PromptSettings& prompt, Variant model, Json settings,
           bool held);

  /// `input`: the row that was asked, or its text; of a conversation a row with its messages. The answer is
  /// on the disk when add() returns.
  void add(const GenerationResult& result, Json input);
  /// The same of answers that come fast: those held are on the disk when write() returns.
  void hold(const GenerationResult& result, Json input);
  void write();
  /// The next `answers` may be there already, from a run that was killed.
  void expect_known(int64_t answers) { maybe_known_ = answers; }

 private:
  Record record_of(const GenerationResult& result, Json input) const;
  RecordStore& store();

  std::string database_;
  std::optional<RecordStore> store_;  // none before the first answer, where the file is not there
  Record common_;
  std::vector<Record> held_;
  bool formed_;  // answers have a form
  int64_t maybe_known_ = 0;
};

}  // namespace llmtool
