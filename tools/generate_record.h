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
  /// The same of answers that come fast: those held are on the disk when write() returns. `equal`: how many
  /// answers of this table in front of this one make the same record but for its time.
  void hold(const GenerationResult& result, Json input, int64_t equal);
  void write();
  /// A run that was killed may have recorded the next answers of a table begun at `since`, `most` of them.
  /// They are not recorded again.
  void expect_known(const std::string& since, int64_t most);
  /// Throws Error where the next write() could not begin.
  void check() { store().check_writable(); }

 private:
  struct Held {
    Record record;
    int64_t equal;
  };
  Record record_of(const GenerationResult& result, Json input) const;
  RecordStore& store();
  bool is_known(const Held& held);

  std::string database_;
  std::optional<RecordStore> store_;  // none before the first answer, where the file is not there
  Record common_;
  std::vector<Held> held_;
  bool formed_;  // answers have a form
  int64_t maybe_known_ = 0;
  std::string since_, until_;  // when those that may be known were recorded
};

}  // namespace llmtool
