#include "llmtool/train/finetune_data.h"

#include "llmtool/core/error.h"
#include "llmtool/data/preview.h"

namespace llmtool {

namespace {
std::shared_ptr<const Tokenizer> open_tokenizer(const FinetuneConfig& config, const ModelSource& base) {
  if (!config.tokenizer.empty()) return load_tokenizer(config.tokenizer);
  const std::filesystem::path& path = base.path();
  if (path.extension() == ".bin" || !has_tokenizer(path))
    throw UsageError(cat(path.string(), ": has no tokenizer; give a tokenizer.path"));
  return load_tokenizer(path);
}
}  // namespace

FinetuneData load_finetune_data(ThreadPool& pool, const FinetuneConfig& config, const ModelSource& base) {
  FinetuneData data;
  data.tokenizer = with_tokens(open_tokenizer(config, base), config.add_tokens);
  ExampleOptions options{config.data, config.loss_on, config.training.sequence_length,
                         static_cast<uint64_t>(config.training.seed)};
  if (config.data.classifies() && options.data.labels.empty() &&
      base.config().head == HeadKind::classification) {
    options.data.labels = base.config().labels;
  }
  data.examples = load_examples(pool, *data.tokenizer, options);
  return data;
}

std::string preview_finetune(ThreadPool& pool, const FinetuneConfig& config, int64_t count, bool colour) {
  config.check();
  const auto base = ModelSource::open(config.model);
  FinetuneConfig settled = config;
  settled.settle(base->config().context());
  const FinetuneData data = load_finetune_data(pool, settled, *base);
  const ExampleSet& set = data.examples.train;
  std::string text = preview_legend(data.examples, colour);
  for (int64_t i = 0; i < std::min(count, set.size()); ++i)
    text += preview(*data.tokenizer, data.examples, set, i, colour);
  return text;
}

}  // namespace llmtool
