#include "llmtool/peft/merge.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "command.h"
#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/model/convert.h"
#include "model_files.h"
#include "write_model.h"

namespace llmtool {

namespace {
namespace fs = std::filesystem;

struct MergeFlags {
  CommonFlags common;
  std::string model, output, to, dtype, verify, tokenizer;
  std::vector<std::string> adapters;
};

ModelOutput output_of(const MergeFlags& flags, const ModelSource& base, const WeightedAdapters& adapters) {
  const auto is_file = [](const fs::path& path) { return path.extension() == ".gguf"; };
  ModelOutput output{flags.output, flags.to.empty() ? is_file(flags.output) : flags.to == "gguf",
                     flags.dtype.empty() ? usual_dtype(base) : dtype_named(flags.dtype)};
  if (output.gguf && !is_file(output.path)) output.path /= "model.gguf";
  const auto is_read = [&](const fs::path& path) {
    return fs::exists(flags.output) && fs::equivalent(path, flags.output);
  };
  bool read = is_read(base.path()) || is_read(flags.model);
  for (const auto& [folder, weight] : adapters) read = read || is_read(folder);
  if (read) throw UsageError(cat(flags.output, ": expected another place than what is merged"));
  check_output(output);
  return output;
}

/// Tokens from all over the vocabulary.
std::vector<TokenId> usual_ids(const ModelConfig& c) {
  std::vector<TokenId> ids;
  for (int64_t i = 1; i <= std::min<int64_t>(64, c.context()); ++i)
    ids.push_back(static_cast<TokenId>(i * 7919 % c.vocab_size));
  return ids;
}

bool has_experts(const ModelConfig& c) {
  bool found = false;
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) found = found || c.has_experts(layer);
  return found;
}

/// How far values may be apart, as a share of their size. Storing moves every weight by up to `unit` of
/// itself (in blocks: of the greatest of its block). That this adds up at random over some hundred matrices
/// and that the worst of all values is taken makes a few dozen units; summing in another order alone makes
/// far less than the constant. Where tokens choose experts, a rounding can send one elsewhere.
double tolerance(DType dtype, bool experts) {
  const double unit = dtype == DType::f32    ? 0x1p-24
                      : dtype == DType::f16  ? 0x1p-11
                      : dtype == DType::bf16 ? 0x1p-8
                      : dtype == DType::q8_0 ? 1.0 / 127
                                             : 1.0 / 8;
  return experts && dtype != DType::f32 ? std::max(1.0, 64 * unit) : 1e-3 + 64 * unit;
}

struct Verified {
  size_t tokens;
  AnswerDifference difference;
  double limit;
  bool holds() const { return difference.greatest <= limit; }
};

Verified verify(const MergeFlags& flags, const std::shared_ptr<const ModelSource>& base,
                const WeightedAdapters& adapters, const ModelOutput& output, std::vector<TokenId> ids) {
  const std::shared_ptr<const ModelSource> written = ModelSource::open(output.path);
  ids.resize(std::min(ids.size(), static_cast<size_t>(written->config().context())));
  ThreadPool pool(flags.common.threads);
  const ModelAnswer before = answer_of(pool, *AdaptedModel(base, adapters).model, ids);
  const AnswerDifference d = compare_answers(before, answer_of(pool, Transformer(written), ids));
  return {ids.size(), d, tolerance(output.dtype, has_experts(written->config())) * d.size};
}

int run_merge(const MergeFlags& flags) {
  set_quiet(flags.common.quiet);
  const std::shared_ptr<const ModelSource> base = ModelSource::open(flags.model);
  const WeightedAdapters adapters = adapters_named(flags.adapters);
  const ModelOutput output = output_of(flags, *base, adapters);
  const auto tokenizer = tokenizer_of(*base, flags.tokenizer, adapters);
  const MergedSource merged(base, adapters);
  const std::vector<TokenId> ids =
      flags.verify.empty() ? usual_ids(merged.config())
                           : ids_to_verify(flags.verify, tokenizer.get(), merged.config().context());
  write_model(merged, tokenizer.get(), tokenizer_place(*base, adapters), output);
  const Verified v = verify(flags, base, adapters, output, ids);
  info(cat("verified on ", v.tokens, " tokens: greatest logit difference ", v.difference.greatest,
           " to the model with adapters beside it, the same likeliest token at ", v.difference.same_best));
  if (flags.common.json) {
    print_json({{"output", output.path.string()},
                {"format", output.format()},
                {"dtype", dtype_name(output.dtype)},
                {"adapters", adapters.size()},
                {"verify",
                 {{"tokens", v.tokens},
                  {"greatest_logit_difference", v.difference.greatest},
                  {"limit", v.limit},
                  {"same_likeliest_token", v.difference.same_best}}}});
  }
  if (v.holds()) return 0;
  throw Error(cat(output.path.string(), ": not the model with its adapters: expected logits within ", v.limit,
                  " (for ", dtype_name(output.dtype), "), found ", v.difference.greatest, " apart"));
}
}  // namespace

std::function<int()> merge_command(CLI::App& app) {
  auto f = std::make_shared<MergeFlags>();
  app.add_option("--model,-m", f->model, "Base: a model folder, a run folder, a .gguf")->required();
  add_adapter_flag(app, f->adapters)->required();
  app.add_option("--output,-o", f->output, "Folder or .gguf file to write")->required();
  app.add_option("--to", f->to, "hf or gguf, OUTPUT/model.gguf (default: gguf where OUTPUT ends with it)")
      ->check(CLI::IsMember({"hf", "gguf"}));
  app.add_option("--dtype", f->dtype,
                 "f32, f16, bf16; q8_0, q4_0 in GGUF (default: the base's; f32 if that is quantized)");
  app.add_option("--verify", f->verify, "Compare on this text, not on tokens from all over the vocabulary");
  app.add_option("--tokenizer", f->tokenizer, "Tokenizer (default: the base's)");
  add_plain_flags(app, f->common);
  return [f] { return run_merge(*f); };
}

}  // namespace llmtool
