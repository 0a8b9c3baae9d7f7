#pragma once
// PromptWriter: from a row to the prompt that a model is given.

#include <optional>

#include "llmtool/data/prompt_template.h"
#include "llmtool/prompt/conversation.h"
#include "llmtool/prompt/shots.h"

namespace llmtool {

struct PromptSettings {
  std::string template_file;         // "": the row's column `field` is the prompt
  std::string field = "prompt";      // what a prompt that is no row is called in a template, too
  bool chat = false;                 // by the model's chat template
  std::string system;                // its system message; "": none
  std::string shots;                 // file with examples; "": none
  std::optional<int64_t> num_shots;  // none: 4, or as many as there are
  std::string shot_selection = "fixed";
  std::string
      shot_answer;  // column of an example's answer; "": completion, output, answer, response or label
  std::string shot_separator = "\n\n";
  uint64_t seed = 0;
};

/// The prompt of a row is its template filled in, or the column `field`. An example is a row, too, with an
/// answer beside: its prompt is made likewise, and the answer follows it, behind a blank unless there is
/// white space already. Examples stand in front of the prompt, separated; with `chat` they are turns of user
/// and assistant behind the system message, and the prompt is what the user says last. Rows with `messages`
/// are conversations; a system message of their own stays.
class PromptWriter {
 public:
  /// Reads template and examples. `tokenizer` (may be nullptr: then only texts are made) outlives it. Throws
  /// UsageError.
  PromptWriter(const PromptSettings& settings, const Tokenizer* tokenizer);

  /// `number`: of the row, for random examples. Throws Error opening with `origin`.
  Prompt write(const nlohmann::ordered_json& row, int64_t number, const std::string& origin) const;
  /// Of a text as if it were the column `field` of a row.
  Prompt write_text(const std::string& text, int64_t number, const std::string& origin) const;

  /// Whether a prompt is anything but the row's own text.
  bool adds() const { return template_ || chat_ || selector_; }

 private:
  std::string text_of_row(const nlohmann::ordered_json& row, const std::string& origin) const;
  std::vector<Shot> read_shots() const;
  nlohmann::ordered_json turns(const std::string& prompt, int64_t number) const;

  PromptSettings settings_;
  const Tokenizer* tokenizer_;
  std::optional<PromptTemplate> template_;
  std::optional<ChatWriter> chat_;
  std::optional<ShotSelector> selector_;
};

}  // namespace llmtool
