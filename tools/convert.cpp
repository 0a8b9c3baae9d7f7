#include "llmtool/model/convert.h"

#include <CLI/CLI.hpp>
#include <cmath>
#include <memory>
#include <numeric>

#include "command.h"
#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/core/workspace.h"
#include "llmtool/io/files.h"
#include "llmtool/model/transformer.h"
#include "llmtool/text/gguf_vocabulary.h"
#include "model_files.h"

namespace llmtool {

namespace {
namespace fs = std::filesystem;

struct ConvertFlags {
  CommonFlags common;
  std::string in, out, to, dtype, verify, tokenizer;
};

DType dtype_named(const std::string& name) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0}) {
    if (name == dtype_name(dtype)) return dtype;
  }
  throw UsageError(cat("--dtype: expected f32, f16, bf16, q8_0 or q4_0, found \"", name, "\""));
}

/// The tokenizer goes along, and what says how texts become vectors: a folder's files as they are, else what
/// can be made of the tokenizer.
void write_tokenizer(const ModelSource& source, const Tokenizer* tokenizer, const fs::path& folder) {
  const auto copy = [&](const char* name) {
    const std::string text = text_beside(source, name);
    if (text.empty()) return false;
    fs::create_directories((folder / name).parent_path());
    write_file(folder / name, text);
    return true;
  };
  bool copied = false;
  for (const char* name : {"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"})
    copied = copy(name) || copied;
  for (const char* name :
       {"merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
        "chat_template.jinja", "modules.json", "sentence_bert_config.json",
        "config_sentence_transformers.json", "1_Pooling/config.json"}) {
    copy(name);
  }
  if (!fs::is_directory(source.path()))
    write_embedding_settings(source.embedding(), source.config().hidden_size, folder);
  if (!copied && tokenizer) tokenizer->save(folder);
  if (!copied && !tokenizer) warn("the model has no tokenizer that can be read: none is written");
}

/// What the model says of a text's first tokens: logits, or the last layer's output where it has no head for
/// them.
std::vector<float> outputs_of(ThreadPool& pool, const fs::path& path, const std::vector<TokenId>& ids) {
  const Transformer model(std::shared_ptr<const ModelSource>(ModelSource::open(path)));
  const bool logits = model.config().head == HeadKind::language_model;
  const auto n = static_cast<int64_t>(ids.size()),
             width = logits ? model.config().vocab_size : model.config().hidden_size;
  std::vector<float> values(static_cast<size_t>(n * width));
  std::vector<int64_t> rows(ids.size());
  std::iota(rows.begin(), rows.end(), 0);
  Workspace(pool).run([&](Exec& exec) {
    const Tensor out(values.data(), {n, width});
    if (logits) {
      model.token_logits(exec, Batch::of(ids, 1), rows, out);
    } else {
      model.encode(exec, Batch::of(ids, 1), out);
    }
  });
  return values;
}

nlohmann::ordered_json verify(const ConvertFlags& flags, const ModelSource& source,
                              const Tokenizer* tokenizer) {
  ThreadPool pool(flags.common.threads);
  std::vector<TokenId> ids = tokenizer->encode(read_file(flags.verify), {.add_special_tokens = true});
  const int64_t context =
      std::min(source.config().context(), ModelSource::open(flags.out)->config().context());
  ids.resize(std::min<size_t>({ids.size(), 256, static_cast<size_t>(context)}));
  if (ids.empty()) throw UsageError(cat("--verify: ", flags.verify, ": expected text, found none"));
  const std::vector<float> before = outputs_of(pool, flags.in, ids), after = outputs_of(pool, flags.out, ids);
  const size_t V = before.size() / ids.size();
  double most = 0;
  int64_t same = 0;
  for (size_t i = 0; i < before.size(); ++i) most = std::max<double>(most, std::abs(before[i] - after[i]));
  for (size_t t = 0; t < ids.size(); ++t) {
    const auto best = [&](const std::vector<float>& logits) {
      const auto first = logits.begin() + static_cast<std::ptrdiff_t>(t * V);
      return std::max_element(first, first + static_cast<std::ptrdiff_t>(V)) - first;
    };
    same += best(before) == best(after);
  }
  info(cat("verified on ", ids.size(), " tokens: greatest logit difference ", most,
           ", the same likeliest token at ", same));
  return {{"tokens", ids.size()}, {"greatest_logit_difference", most}, {"same_likeliest_token", same}};
}

int run_convert(const ConvertFlags& flags) {
  set_quiet(flags.common.quiet);
  const bool gguf = flags.to.empty() ? fs::path(flags.out).extension() == ".gguf" : flags.to == "gguf";
  if (fs::exists(flags.out) && fs::equivalent(flags.in, flags.out))
    throw UsageError(cat(flags.out, ": expected another place than the model that is read"));
  const auto source = ModelSource::open(flags.in);
  const DType dtype = flags.dtype.empty() ? usual_dtype(*source) : dtype_named(flags.dtype);
  if (!gguf && dtype_block(dtype).elements != 1)
    throw UsageError(cat("--dtype ", flags.dtype, ": a Hugging Face folder holds f32, f16 or bf16"));
  const auto tokenizer = tokenizer_of(*source, flags.tokenizer);
  if (!flags.verify.empty()) {
    if (!fs::is_regular_file(flags.verify))
      throw UsageError(cat("--verify: ", flags.verify, ": no such file"));
    if (!tokenizer)
      throw UsageError("--verify: the model has no tokenizer that can be read; give a --tokenizer");
  }
  const ConvertProgress progress = [&](int64_t done, int64_t all) {
    show_progress(cat("tensor ", done, " of ", all));
  };
  if (gguf) {
    const auto vocabulary = tokenizer ? gguf_vocabulary(*tokenizer) : std::vector<GgufEntry>();
    convert_to_gguf(*source, flags.out, dtype, vocabulary, progress);
    if (vocabulary.empty()) {
      warn(tokenizer ? "the tokenizer is of a kind that GGUF cannot hold: the file has none"
                     : "the model has no tokenizer: the file has none");
    }
    if (source->config().pooler)
      warn("the pooler is left out, for which GGUF has no place: cls, mean and last pooling do without it");
  } else {
    convert_to_folder(*source, flags.out, dtype, progress);
    write_tokenizer(*source, tokenizer.get(), flags.out);
  }
  show_progress("");
  info(cat("wrote ", flags.out, " (", gguf ? "GGUF" : "Hugging Face folder", ", ", dtype_name(dtype), ")"));
  nlohmann::ordered_json report = {
      {"output", flags.out}, {"format", gguf ? "gguf" : "hf"}, {"dtype", dtype_name(dtype)}};
  if (!flags.verify.empty()) report["verify"] = verify(flags, *source, tokenizer.get());
  if (flags.common.json) print_json(report);
  return 0;
}
}  // namespace

std::function<int()> convert_command(CLI::App& app) {
  auto f = std::make_shared<ConvertFlags>();
  app.add_option("IN", f->in, "Model: a folder, a .gguf, a llama2.c .bin")->required();
  app.add_option("OUT", f->out, "Folder or .gguf file to write")->required();
  app.add_option("--to", f->to, "hf or gguf (default: gguf where OUT ends with it)")
      ->check(CLI::IsMember({"hf", "gguf"}));
  app.add_option("--dtype", f->dtype, "f32, f16, bf16; q8_0, q4_0 in GGUF (default: the model's)");
  app.add_option("--verify", f->verify, "Run both on this text and say the greatest logit difference");
  app.add_option("--tokenizer", f->tokenizer, "Tokenizer (default: the model's)");
  add_plain_flags(app, f->common);
  return [f] { return run_convert(*f); };
}

}  // namespace llmtool
