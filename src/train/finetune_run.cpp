// FinetuneRun: the parts of its loop.

#include "train/finetune_run.h"

#include <cmath>

#include "llmtool/core/error.h"

namespace llmtool {

namespace {
/// -log of the softmax of `logits` at `target`.
double negative_log_likelihood(std::span<const float> logits, int32_t target) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - most);
  return std::log(sum) + most - logits[static_cast<size_t>(target)];
}

int64_t count_targets(const Example& example, bool classifies) {
  return classifies ? int64_t{example.label >= 0} : example.trained_tokens();
}
}  // namespace

TrainingRun::MicroBatch FinetuneRun::gather(const ExampleSet& set, const std::vector<int64_t>& examples) {
  MicroBatch micro;
  inputs_.clear();
  targets_.clear();
  for (const int64_t i : examples) {
    const Example example = set[i];
    const std::span<const TokenId> ids = example.ids;
    const std::vector<int32_t> in_front = model_->virtual_ids();
    inputs_.insert(inputs_.end(), in_front.begin(), in_front.end());
    inputs_.insert(inputs_.end(), ids.begin(), ids.end());
    micro.batch.lengths.push_back(static_cast<int64_t>(in_front.size() + ids.size()));
    if (classifies()) {
      targets_.push_back(example.label);
      continue;
    }
    targets_.insert(targets_.end(), in_front.size(), -1);
    for (size_t t = 1; t < ids.size(); ++t) targets_.push_back(example.trained[t] ? ids[t] : -1);
    targets_.push_back(-1);  // nothing stands behind the last
  }
  micro.batch.ids = inputs_;
  micro.targets = targets_;
  return micro;
}

TrainingRun::MicroBatch FinetuneRun::micro_batch(int64_t i) {
  return gather(data_.examples.train, batches_->examples(state_.step, i));
}

double FinetuneRun::step_weight() const {
  double weight = 0;
  for (int64_t micro = 0, n = micro_batches(); micro < n; ++micro) {
    for (const int64_t i : batches_->examples(state_.step, micro)) {
      const Example example = data_.examples.train[i];
      const auto count = static_cast<double>(count_targets(example, classifies()));
      const bool weighted = !class_weights_.empty() && example.label >= 0;
      weight +=
          weighted ? count * static_cast<double>(class_weights_[static_cast<size_t>(example.label)]) : count;
    }
  }
  return weight;
}

void FinetuneRun::set_loss(LossOptions& options) const {
  options.label_smoothing = config_.label_smoothing_factor;
  options.neftune_noise_alpha = config_.neftune_noise_alpha;
  options.class_weights = class_weights_;
}

void FinetuneRun::after_update(double gradient_scale) {
  if (adapter_) adapter_->after_update(state_.step, gradient_scale);
}

double FinetuneRun::tokens_per_step() const {
  return static_cast<double>(batches_->tokens()) / static_cast<double>(batches_->steps_per_epoch());
}

void FinetuneRun::describe_step(nlohmann::ordered_json& row) const {
  row["epoch"] = static_cast<double>(state_.step) / static_cast<double>(batches_->steps_per_epoch());
}

std::optional<TrainingRun::Evaluation> FinetuneRun::take_evaluation() {
  int64_t examples = data_.examples.validation.size();
  if (config_.evaluation.max_sequences > 0) examples = std::min(examples, config_.evaluation.max_sequences);
  if (examples == 0) return {};
  return classifies() ? evaluate_classes(examples) : evaluate_texts(examples);
}

namespace {
/// Calls visit with the numbers [0, n) in groups of at most `size`.
template <class Visit>
void in_groups(int64_t n, int64_t size, Visit visit) {
  std::vector<int64_t> group;
  for (int64_t i = 0; i < n; ++i) {
    group.push_back(i);
    if (i + 1 < n && static_cast<int64_t>(group.size()) < size) continue;
    visit(group);
    group.clear();
  }
}
}  // namespace

TrainingRun::Evaluation FinetuneRun::evaluate_texts(int64_t examples) {
  Evaluation result;
  in_groups(examples, training().batch_size, [&](const std::vector<int64_t>& group) {
    const MicroBatch micro = gather(data_.examples.validation, group);
    const LossSums more = model_->evaluate(*exec_, micro.batch, micro.targets);
    result.sums.loss += more.loss;
    result.sums.count += more.count;
  });
  const double perplexity =
      std::exp(result.sums.loss / static_cast<double>(std::max<int64_t>(1, result.sums.count)));
  result.columns["val_perplexity"] = perplexity;
  std::ostringstream text;
  text.precision(4);
  text << ", perplexity " << perplexity;
  result.text = text.str();
  return result;
}

TrainingRun::Evaluation FinetuneRun::evaluate_classes(int64_t examples) {
  Evaluation result;
  const size_t classes = data_.examples.labels.size();
  confusion_.emplace(data_.examples.labels);
  std::vector<float> logits;
  in_groups(examples, training().batch_size, [&](const std::vector<int64_t>& group) {
    const MicroBatch micro = gather(data_.examples.validation, group);
    logits.resize(group.size() * classes);
    model_->classify(
        *exec_, micro.batch,
        Tensor(logits.data(), {static_cast<int64_t>(group.size()), static_cast<int64_t>(classes)}));
    for (size_t b = 0; b < group.size(); ++b) {
      const std::span<const float> row = std::span<const float>(logits).subspan(b * classes, classes);
      result.sums.loss += negative_log_likelihood(row, micro.targets[b]);
      ++result.sums.count;
      confusion_->add(micro.targets[b], std::max_element(row.begin(), row.end()) - row.begin());
    }
  });
  result.columns["val_accuracy"] = confusion_->accuracy();
  result.columns["val_f1"] = confusion_->macro_f1();
  result.columns["val_confusion"] = confusion_->rows();
  std::ostringstream text;
  text.precision(4);
  text << ", accuracy " << confusion_->accuracy() << ", macro F1 " << confusion_->macro_f1() << "\n"
       << confusion_->text();
  result.text = text.str();
  return result;
}

std::vector<TokenId> FinetuneRun::prompt_ids(const std::string& prompt) const {
  const std::vector<TokenId> ids =
      tokenizer_->encode(prompt, {.add_special_tokens = tokenizer_->adds_bos(), .unfinished = true});
  return ids.empty() ? TrainingRun::prompt_ids(prompt) : ids;
}

RunOutcome finetune(ThreadPool& pool, const FinetuneConfig& config, const FinetuneOptions& options) {
  return FinetuneRun(pool, config, options).run();
}

}  // namespace llmtool
