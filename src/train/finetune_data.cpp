#include "llmtool/train/finetune_data.h"

#include <nlohmann/json.hpp>

#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/data/lint.h"
#include "llmtool/data/preview.h"
#include "llmtool/io/json_text.h"

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
  const auto known = open_tokenizer(config, base);
  data.known_tokens = known->vocab_size();
  data.tokenizer = with_tokens(known, config.add_tokens);
  ExampleOptions options{config.data, config.loss_on, config.training.sequence_length,
                         static_cast<uint64_t>(config.training.seed)};
  if (config.data.classifies() && options.data.labels.empty() &&
      base.config().head == HeadKind::classification) {
    options.data.labels = base.config().labels;
  }
  data.examples = load_examples(pool, *data.tokenizer, options);
  return data;
}

namespace {
std::string preview_row(const Tokenizer& tokenizer, const Examples& examples, int64_t i) {
  const Example example = examples.train[i];
  std::vector<TokenId> known;
  for (const TokenId id : example.ids) {
    if (id >= 0 && id < tokenizer.vocab_size()) known.push_back(id);
  }
  nlohmann::ordered_json row = {{"origin", examples.train.origin(i)},
                                {"text", tokenizer.decode(known)},
                                {"ids", example.ids},
                                {"trained", example.trained}};
  if (example.label >= 0) row["label"] = examples.labels[static_cast<size_t>(example.label)];
  return json_line(row) + "\n";
}
}  // namespace

std::string preview_finetune(ThreadPool& pool, const FinetuneConfig& config, int64_t count,
                             PreviewStyle style) {
  config.check();
  const auto base = ModelSource::open(config.model);
  FinetuneConfig settled = config;
  settled.settle(base->config().context());
  const FinetuneData data = load_finetune_data(pool, settled, *base);
  const ExampleSet& set = data.examples.train;
  const int64_t vocabulary =
      std::max(base->config().vocab_size, config.add_tokens.empty() ? 0 : data.tokenizer->vocab_size());
  info(lint(*data.tokenizer, data.examples, vocabulary).text());
  const bool colour = style == PreviewStyle::colour, json = style == PreviewStyle::json;
  std::string text = json ? "" : preview_legend(data.examples, colour);
  for (int64_t i = 0; i < std::min(count, set.size()); ++i) {
    text += json ? preview_row(*data.tokenizer, data.examples, i)
                 : preview(*data.tokenizer, data.examples, set, i, colour);
  }
  return text;
}

}  // namespace llmtool
