#include "write_model.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/core/workspace.h"
#include "llmtool/io/files.h"
#include "llmtool/model/convert.h"
#include "llmtool/text/gguf_vocabulary.h"

namespace llmtool {

namespace {
namespace fs = std::filesystem;

/// The tokenizer goes along, and what says how texts become vectors: a folder's files as they are, else what
/// can be made of the tokenizer.
void write_tokenizer(const ModelSource& source, const Tokenizer* tokenizer, const fs::path& place,
                     const fs::path& folder) {
  const auto copy = [&](const fs::path& from, const char* name) {
    if (!fs::is_regular_file(from / name)) return false;
    fs::create_directories((folder / name).parent_path());
    write_file(folder / name, read_file(from / name));
    return true;
  };
  bool copied = false;
  for (const char* name : {"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"})
    copied = copy(place, name) || copied;
  for (const char* name :
       {"merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"})
    copy(place, name);
  copy(place, "chat_template.jinja") || copy(source.path(), "chat_template.jinja");
  for (const char* name : {"modules.json", "sentence_bert_config.json", "config_sentence_transformers.json",
                           "1_Pooling/config.json"})
    copy(source.path(), name);
  if (!fs::is_directory(source.path()))
    write_embedding_settings(source.embedding(), source.config().hidden_size, folder);
  if (!copied && tokenizer) tokenizer->save(folder);
  if (!copied && !tokenizer) warn("the model has no tokenizer that can be read: none is written");
}

void write_gguf(const ModelSource& source, const Tokenizer* tokenizer, const ModelOutput& output,
                const ConvertProgress& progress) {
  const auto vocabulary = tokenizer ? gguf_vocabulary(*tokenizer) : std::vector<GgufEntry>();
  convert_to_gguf(source, output.path, output.dtype, vocabulary, progress);
  if (vocabulary.empty()) {
    warn(tokenizer ? "the tokenizer is of a kind that GGUF cannot hold: the file has none"
                   : "the model has no tokenizer: the file has none");
  }
  if (source.config().pooler)
    warn("the pooler is left out, for which GGUF has no place: cls, mean and last pooling do without it");
}
}  // namespace

DType dtype_named(const std::string& name) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0}) {
    if (name == dtype_name(dtype)) return dtype;
  }
  throw UsageError(cat("--dtype: expected f32, f16, bf16, q8_0 or q4_0, found \"", name, "\""));
}

void check_output(const ModelOutput& output) {
  std::error_code ignored;
  if (!output.gguf && fs::is_directory(output.path) && !fs::is_empty(output.path, ignored) &&
      !fs::exists(output.path / "config.json"))
    throw UsageError(
        cat(output.path.string(),
            ": expected a folder that is new, empty or a model's (with config.json), found other "
            "files in it"));
  if (!output.gguf && dtype_block(output.dtype).elements != 1)
    throw UsageError(
        cat("--dtype ", dtype_name(output.dtype), ": a Hugging Face folder holds f32, f16 or bf16"));
}

void write_model(const ModelSource& source, const Tokenizer* tokenizer, const fs::path& place,
                 const ModelOutput& output) {
  const ConvertProgress progress = [](int64_t done, int64_t all) {
    show_progress(cat("tensor ", done, " of ", all));
  };
  if (output.gguf) {
    write_gguf(source, tokenizer, output, progress);
  } else {
    convert_to_folder(source, output.path, output.dtype, progress);
    write_tokenizer(source, tokenizer, place, output.path);
  }
  show_progress("");
  info(cat("wrote ", output.path.string(), " (", output.gguf ? "GGUF" : "Hugging Face folder", ", ",
           dtype_name(output.dtype), ")"));
}

std::vector<TokenId> ids_to_verify(const std::string& file, const Tokenizer* tokenizer, int64_t context) {
  if (!fs::is_regular_file(file)) throw UsageError(cat("--verify: ", file, ": no such file"));
  if (!tokenizer)
    throw UsageError("--verify: the model has no tokenizer that can be read; give a --tokenizer");
  std::vector<TokenId> ids = tokenizer->encode(read_file(file), {.add_special_tokens = true});
  ids.resize(std::min<size_t>({ids.size(), 256, static_cast<size_t>(context)}));
  if (ids.empty()) throw UsageError(cat("--verify: ", file, ": expected text, found none"));
  return ids;
}

ModelAnswer answer_of(ThreadPool& pool, const Transformer& model, std::span<const TokenId> ids) {
  const ModelConfig& c = model.config();
  const bool classifies = c.head == HeadKind::classification, logits = c.head == HeadKind::language_model;
  const auto T = static_cast<int64_t>(ids.size()), rows = classifies ? 1 : T;
  const int64_t width = classifies ? static_cast<int64_t>(c.labels.size())
                        : logits   ? c.vocab_size
                                   : c.hidden_size;
  ModelAnswer answer{std::vector<float>(static_cast<size_t>(rows * width)), static_cast<size_t>(rows)};
  std::vector<int64_t> positions(ids.size());
  std::iota(positions.begin(), positions.end(), 0);
  Workspace(pool).run([&](Exec& exec) {
    const Tensor out(answer.values.data(), {rows, width});
    const Batch batch = Batch::of(ids, 1);
    if (classifies) return model.classify(exec, batch, out);
    logits ? model.token_logits(exec, batch, positions, out) : model.encode(exec, batch, out);
  });
  return answer;
}

AnswerDifference compare_answers(const ModelAnswer& before, const ModelAnswer& after) {
  AnswerDifference d;
  double squares = 0;
  for (size_t i = 0; i < before.values.size(); ++i) {
    const double x = before.values[i], apart = std::abs(x - after.values[i]);
    if (!(apart <= d.greatest)) d.greatest = apart;  // what is no number is the greatest
    squares += x * x;
  }
  d.size = std::sqrt(squares / static_cast<double>(before.values.size()));
  const size_t width = before.values.size() / before.rows;
  for (size_t row = 0; row < before.rows; ++row) {
    const auto best = [&](const std::vector<float>& values) {
      const auto first = values.begin() + static_cast<std::ptrdiff_t>(row * width);
      return std::max_element(first, first + static_cast<std::ptrdiff_t>(width)) - first;
    };
    d.same_best += best(before.values) == best(after.values);
  }
  return d;
}

}  // namespace llmtool
