#pragma once
// What the examples of fine-tuning are made from, and how: the section "data" of its config.

#include <string>
#include <vector>

#include "llmtool/data/data_source.h"

namespace llmtool {

/// On which tokens the loss is taken.
enum class LossOn {
  completion,  // what the model is to answer: the completion, of a conversation the last assistant's turn
  assistant,   // every assistant's turn
  all
};
inline const std::vector<std::string> kLossOnNames = {"completion", "assistant", "all"};
/// Throws UsageError on a name that is none.
LossOn loss_on_of(const std::string& name);

/// The columns where the rows have what we call so; "" for a column of our own name.
struct FieldNames {
  std::string text, prompt, completion, messages, instruction, input, output, system, history, tools;
};

struct ExampleConfig {
  std::vector<DataSource> train;
  std::vector<std::string> validation;  // files, folders, globs
  double validation_fraction = 0;       // held out of the training rows where there are no such files
  FieldNames fields;
  std::string prompt_template;      // with slots {column}; "{{" and "}}" are braces
  std::string chat_template;        // a file, or the template itself; "": the model's
  std::string label_column;         // what the rows are to be told apart by; "": nothing
  std::string label_as = "class";   // class, or completion: a name that is written behind the prompt
  std::vector<std::string> labels;  // names in order; empty: the values that are found, sorted
  bool shuffle = true;              // else rows come in their order
  bool packing = false;             // examples are put together up to the greatest length
  std::string input_format = "auto";
  std::vector<std::string> columns;  // names, of CSV and TSV files that have no heading

  /// Whether a class is learnt, not a text.
  bool classifies() const { return !label_column.empty() && label_as == "class"; }
  void visit(ConfigVisitor& v);
  /// Refuses what cannot be together. Throws UsageError naming the key.
  void check() const;
};

}  // namespace llmtool
