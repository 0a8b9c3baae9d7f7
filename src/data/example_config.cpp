#include "llmtool/data/example_config.h"

#include <algorithm>

#include "llmtool/core/error.h"
#include "llmtool/data/prompt_template.h"

namespace llmtool {

LossOn loss_on_of(const std::string& name) {
  const auto at = std::find(kLossOnNames.begin(), kLossOnNames.end(), name);
  if (at == kLossOnNames.end())
    throw UsageError(cat("loss_on: expected completion, assistant or all, found ", name));
  return static_cast<LossOn>(at - kLossOnNames.begin());
}

namespace {
void visit_fields(ConfigVisitor& v, FieldNames& f) {
  v.string("text", f.text, "column with a text that is learnt as a whole");
  v.string("prompt", f.prompt, "column with the prompt: a text or messages");
  v.string("completion", f.completion, "column with the answer: a text or messages");
  v.string("messages", f.messages, "column with a conversation");
  v.string("instruction", f.instruction, "column with an instruction");
  v.string("input", f.input, "column with what the instruction is about");
  v.string("output", f.output, "column with the answer to an instruction");
  v.string("system", f.system, "column with the system's message");
  v.string("history", f.history, "column with earlier pairs of instruction and answer");
  v.string("tools", f.tools, "column with the tools of a conversation");
}
}  // namespace

void ExampleConfig::visit(ConfigVisitor& v) {
  visit_sources(v, train, "file, folder or glob: JSON, JSONL, CSV or TSV");
  v.strings("validation", validation, "files, folders or globs; empty: held out from the training rows");
  v.number("validation_fraction", validation_fraction, {0, 0.9}, "held out by row; 0: no validation");
  v.section("fields", "columns of the rows, where they have names of their own",
            [&](ConfigVisitor& s) { visit_fields(s, fields); });
  v.string("prompt_template", prompt_template, "prompt with slots {column}; {{ and }} are braces");
  v.string("chat_template", chat_template, "file or text of a chat template; empty: the model's");
  v.string("label_column", label_column, "column with a label; empty: none");
  v.choice("label_as", label_as, {"class", "completion"}, "a class to predict, or its name to write");
  v.strings("labels", labels, "names of the labels, in order; empty: those that are found, sorted");
  v.boolean("shuffle", shuffle, "false: rows come in their order");
  v.boolean("packing", packing, "several examples in a sequence of the greatest length, kept apart");
  v.choice("input_format", input_format, {"auto", "jsonl", "json", "csv", "tsv"}, "auto: by the file's name");
  v.strings("columns", columns, "names of the columns, of CSV and TSV files without a heading");
}

void ExampleConfig::check() const {
  check_sources(train);
  PromptTemplate parsed(prompt_template);
  for (const auto& [names, key] : {std::pair(&labels, "data.labels"), std::pair(&columns, "data.columns")}) {
    std::vector<std::string> sorted = *names;
    std::sort(sorted.begin(), sorted.end());
    const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
    if (twice != sorted.end()) throw UsageError(cat(key, ": ", *twice, " stands twice"));
  }
  if (!labels.empty() && label_column.empty())
    throw UsageError("data.labels: expected data.label_column to say where the labels are");
  if (!label_column.empty() && label_as == "completion" && prompt_template.empty() && fields.prompt.empty())
    throw UsageError(
        "data.label_as: a label is written behind a prompt; give data.prompt_template or data.fields.prompt");
}

}  // namespace llmtool
