#pragma once
// Models on their way into files: what `convert` and `merge` share.

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "llmtool/core/thread_pool.h"
#include "llmtool/model/model_source.h"
#include "llmtool/model/transformer.h"
#include "llmtool/text/tokenizer.h"

namespace llmtool {

struct ModelOutput {
  std::filesystem::path path;  // a folder, or a .gguf file
  bool gguf;
  DType dtype;

  const char* format() const { return gguf ? "gguf" : "hf"; }
};

/// f32, f16, bf16, q8_0 or q4_0. Throws UsageError.
DType dtype_named(const std::string& name);
/// Throws UsageError on a type that the format does not hold and on a folder with other files than a model's.
void check_output(const ModelOutput& output);

/// Writes the weights and, where there is one, the tokenizer, whose files lie in `place`, and says so.
void write_model(const ModelSource& source, const Tokenizer* tokenizer, const std::filesystem::path& place,
                 const ModelOutput& output);

/// The first tokens of --verify's text, as many as both models read. Throws UsageError.
std::vector<TokenId> ids_to_verify(const std::string& file, const Tokenizer* tokenizer, int64_t context);

/// What a model says of a sequence: the logits at every position, those of its labels, or, without a head,
/// the last layer's output. One row for each, in order.
struct ModelAnswer {
  std::vector<float> values;
  size_t rows;
};
ModelAnswer answer_of(ThreadPool& pool, const Transformer& model, std::span<const TokenId> ids);

struct AnswerDifference {
  double greatest = 0;    // between two values
  double size = 0;        // root of the mean square of the values themselves
  int64_t same_best = 0;  // rows whose greatest value is at the same place
};
AnswerDifference compare_answers(const ModelAnswer& before, const ModelAnswer& after);

}  // namespace llmtool
