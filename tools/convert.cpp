#include "llmtool/model/convert.h"

#include <CLI/CLI.hpp>
#include <memory>

#include "command.h"
#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/peft/gguf_adapter.h"
#include "model_files.h"
#include "write_model.h"

namespace llmtool {

namespace {
namespace fs = std::filesystem;

struct ConvertFlags {
  CommonFlags common;
  std::string in, out, to, dtype, verify, tokenizer;
  std::string model;  // the base, where an adapter is converted
};

nlohmann::ordered_json verify(const ConvertFlags& flags, const std::vector<TokenId>& ids) {
  ThreadPool pool(flags.common.threads);
  const auto answer = [&](const std::string& path) {
    return answer_of(pool, Transformer(std::shared_ptr<const ModelSource>(ModelSource::open(path))), ids);
  };
  const AnswerDifference d = compare_answers(answer(flags.in), answer(flags.out));
  info(cat("verified on ", ids.size(), " tokens: greatest logit difference ", d.greatest,
           ", the same likeliest token at ", d.same_best));
  return {{"tokens", ids.size()},
          {"greatest_logit_difference", d.greatest},
          {"same_likeliest_token", d.same_best}};
}

int convert_adapter(const ConvertFlags& flags) {
  if (!flags.verify.empty() || !flags.tokenizer.empty() || flags.to == "hf")
    throw UsageError(cat(flags.in, ": an adapter becomes a GGUF adapter, for which there is no --verify, ",
                         "--tokenizer or --to hf"));
  if (flags.model.empty())
    throw UsageError(cat("--model: expected the base of ", flags.in, ", which is an adapter"));
  const DType dtype = flags.dtype.empty() ? DType::f32 : dtype_named(flags.dtype);
  if (dtype_block(dtype).elements != 1)
    throw UsageError(cat("--dtype ", flags.dtype, ": an adapter holds f32, f16 or bf16"));
  write_gguf_adapter(ModelSource::open(flags.model), find_adapter_folder(flags.in), flags.out, dtype);
  info(cat("wrote ", flags.out, " (GGUF adapter, ", dtype_name(dtype), ")"));
  if (flags.common.json)
    print_json({{"output", flags.out}, {"format", "gguf adapter"}, {"dtype", dtype_name(dtype)}});
  return 0;
}

int run_convert(const ConvertFlags& flags) {
  set_quiet(flags.common.quiet);
  if (!flags.model.empty() || is_adapter_folder(flags.in)) return convert_adapter(flags);
  if (fs::exists(flags.out) && fs::equivalent(flags.in, flags.out))
    throw UsageError(cat(flags.out, ": expected another place than the model that is read"));
  const auto source = ModelSource::open(flags.in);
  const ModelOutput output{flags.out,
                           flags.to.empty() ? fs::path(flags.out).extension() == ".gguf" : flags.to == "gguf",
                           flags.dtype.empty() ? usual_dtype(*source) : dtype_named(flags.dtype)};
  check_output(output);
  const auto tokenizer = tokenizer_of(*source, flags.tokenizer);
  std::vector<TokenId> ids;
  if (!flags.verify.empty()) ids = ids_to_verify(flags.verify, tokenizer.get(), source->config().context());
  write_model(*source, tokenizer.get(), source->path(), output);
  nlohmann::ordered_json report = {
      {"output", flags.out}, {"format", output.format()}, {"dtype", dtype_name(output.dtype)}};
  if (!ids.empty()) {
    const int64_t context = ModelSource::open(flags.out)->config().context();
    ids.resize(std::min(ids.size(), static_cast<size_t>(context)));  // a lost window ends it
    report["verify"] = verify(flags, ids);
  }
  if (flags.common.json) print_json(report);
  return 0;
}
}  // namespace

std::function<int()> convert_command(CLI::App& app) {
  auto f = std::make_shared<ConvertFlags>();
  app.add_option("IN", f->in, "Model: a folder, a .gguf, a llama2.c .bin; or, with --model, an adapter")
      ->required();
  app.add_option("OUT", f->out, "Folder or .gguf file to write")->required();
  app.add_option("--model,-m", f->model, "Base of an adapter, which becomes llama.cpp's GGUF adapter");
  app.add_option("--to", f->to, "hf or gguf (default: gguf where OUT ends with it)")
      ->check(CLI::IsMember({"hf", "gguf"}));
  app.add_option("--dtype", f->dtype, "f32, f16, bf16; q8_0, q4_0 in GGUF (default: the model's)");
  app.add_option("--verify", f->verify, "Run both on this text and say the greatest logit difference");
  app.add_option("--tokenizer", f->tokenizer, "Tokenizer (default: the model's)");
  add_plain_flags(app, f->common);
  return [f] { return run_convert(*f); };
}

}  // namespace llmtool
