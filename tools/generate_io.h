#pragma once
// Prompts in, answers out: what `generate` reads and prints.

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "llmtool/infer/generator.h"
#include "llmtool/io/json_text.h"
#include "llmtool/prompt/prompt_writer.h"

namespace llmtool {

struct PromptOptions {
  std::vector<std::string> prompts;  // from the command line
  std::string file;                  // "": standard input where no prompts are given
  std::string format = "text";       // text: a prompt per line; jsonl: rows
  std::string field = "prompt";      // of the rows
  bool nul_separated = false;        // prompts end with NUL, not with a line break
  bool keep_inputs = false;          // until Prompts::input asks for them
};

struct Prompts {
  Generator::Source source;
  Generator::Ready ready;  // false while a live standard input has no more
  /// What was asked: a row, or a text. Asked for in order, as answers come.
  std::function<nlohmann::ordered_json(int64_t index)> input;
};

/// Hands out the prompts one by one, as `writer` writes them. Rows may carry prompt_ids, used as they are.
Prompts open_prompts(const PromptOptions& options, std::shared_ptr<const PromptWriter> writer,
                     const Tokenizer* tokenizer);
/// The same of texts as they are.
Prompts open_prompts(const PromptOptions& options, const Tokenizer* tokenizer);
GenerationRequest request_of(Prompt&& prompt);

/// The finished prompts on stderr, as they are taken.
Generator::Source shown_prompts(Generator::Source source);
/// --dry-run: the finished prompts on stdout, one behind the other, or as rows with their ids.
int print_prompts(const Generator::Source& source, bool json);

/// The row of --json.
nlohmann::ordered_json result_row(const GenerationResult& result, const GenerationOptions& options,
                                  const Tokenizer* tokenizer);

constexpr int kCutShort = 3;  // exit code: an answer is not of the form that it was held to
/// By what it was.
const char* cause_of_cut(const GenerationResult& result, const GenerationOptions& options);
/// Says so and by what, and sets `code`, where the form of an answer was cut short.
void report_cut(const GenerationResult& result, const GenerationOptions& options, int& code);

/// Writes to stdout; false once its reader has gone.
bool write_out(const std::string& text);
/// What ends the work of a command whose results nobody reads on.
struct ReaderGone {};
/// The same, throwing ReaderGone.
void print_out(const std::string& text);

}  // namespace llmtool
