#pragma once
// A table in, a table out.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "generate_io.h"
#include "generate_record.h"
#include "llmtool/data/row_table.h"
#include "llmtool/infer/choices.h"
#include "llmtool/prompt/answer_file.h"

namespace llmtool {

struct TableSettings {
  std::string input, output;          // "": none
  std::string input_format = "auto";  // of the input
  std::string on_error = "stop";      // or skip
};

/// The rows of a table as prompts, their answers as rows: the input's columns, then index (of the row, from
/// 0), sample, prompt (where it is not the row's own text), response, finish_reason and error; `details`: ids
/// and log-probabilities, too. A column of the input that has such a name gets "input_" in front. A row that
/// is skipped has its error instead of a response; the columns are the same, for a CSV file has one heading.
class TableRun {
 public:
  using Json = nlohmann::ordered_json;

  /// `show_prompt`: prompts on stderr, too. Throws UsageError and Error as RowTable does.
  TableRun(const TableSettings& settings, std::shared_ptr<const PromptWriter> writer,
           const GenerationOptions& options, bool details, bool show_prompt);

  /// Opens the output, finds what is done and goes on behind it. `made_by`: what the answers depend on.
  /// Throws UsageError where it holds answers to other rows or by other settings.
  void open_output(const Json& made_by, bool overwrite);

  Generator::Source source();
  /// All answers to the output, or to stdout where there is none, and to `recorder` where there is one;
  /// returns the exit code.
  int answer(Generator& generator, Recorder* recorder);
  /// The same of choices: choice and probabilities instead of a response.
  int choose(ChoiceScorer& scorer, const ChoiceOptions& options, Recorder* recorder);

 private:
  bool next(GenerationRequest& request);
  void resume();
  void pass_over(int64_t index, const std::string& error);
  void deliver(const GenerationResult& result, Recorder* recorder);
  Json input_of(int64_t index);
  Json row_of(int64_t index, const Json& fields);
  void write(Json row);
  void put(const Json& row);
  void write_held();
  Json fields_of(const GenerationResult& result) const;
  int go_through(const std::function<void(const Generator::Source&)>& ask, Recorder* recorder);
  std::string column(const std::string& name, const Json& input) const;
  void write_skipped(int64_t before);
  void count_cut(const GenerationResult& result);
  void show_progress_of(int64_t rows_done);

  TableSettings settings_;
  RowTable rows_;
  std::shared_ptr<const PromptWriter> writer_;
  GenerationOptions options_;
  std::optional<ChoiceResult> choice_;  // of the row that is being written, where choices are scored
  const ChoiceOptions* choices_ = nullptr;
  bool details_, show_prompt_;
  int code_ = 0;
  std::optional<AnswerFile> output_;
  std::string begun_;                  // when the table that is continued was
  std::map<uint64_t, int64_t> equal_;  // answers there, by record_key
  std::optional<Json> blank_;          // the columns of a row that can be read, without values
  Recorder* recorder_ = nullptr;
  std::vector<Json> held_;                  // rows whose records are not written yet
  int64_t next_ = 0, first_ = 0;            // row to ask; first that was not done before
  std::map<int64_t, std::string> skipped_;  // errors that are not written yet, by row
  int64_t skipped_count_ = 0, cut_count_ = 0, tokens_ = 0;
  std::string first_cut_;  // where, and by what
  double began_ = 0, last_shown_ = 0, last_written_ = 0;
};

/// The files that are named are there, and none of those read is one that is written, by whatever name.
/// Throws UsageError.
void check_files(const struct GenerateConfig& config);

}  // namespace llmtool
