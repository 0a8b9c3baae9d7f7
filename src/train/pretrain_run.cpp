// PretrainRun.

#include "train/pretrain_run.h"

#include <cmath>

#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/model/model_source.h"
#include "train/base_model.h"

namespace llmtool {

nlohmann::ordered_json PretrainRun::config_json() const {
  PretrainConfig copy = config_;
  return write_config([&](ConfigVisitor& v) { copy.visit(v); });
}

void PretrainRun::prepare() {
  check_config();  // before the data, which may take long
  data_ = prepare_data(pool_, config_, folder_.path());
  tokenizer_ = data_.tokenizer;
  open_model();
  config_.check();
  open_windows();
}

void PretrainRun::check_config() const {
  PretrainConfig trial = config_;
  if (!trial.init_from.empty()) {
    const auto base = ModelSource::open(trial.init_from);
    check_writable(*base, "training.init_from");
    trial.model = base->config();
    if (!trial.model.generates()) {
      throw UsageError(
          cat("training.init_from: expected a decoder with a language model's head, found another ",
              trial.model.model_type, " model"));
    }
  } else {
    if (trial.model.vocab_size == 0) trial.model.vocab_size = 1;  // the tokenizer's, to come
    trial.model.resolve();
  }
  trial.check();
}

void PretrainRun::open_model() {
  ModelConfig& c = config_.model;
  if (!config_.init_from.empty()) {
    model_.emplace(load_transformer(config_.init_from));
    const ModelConfig& loaded = model_->config();
    if (tokenizer_ && loaded.vocab_size < tokenizer_->vocab_size()) {
      throw UsageError(cat("tokenizer: its ", tokenizer_->vocab_size(),
                           " pieces do not fit the model's vocabulary of ", loaded.vocab_size));
    }
    c = loaded;
  } else {
    if (tokenizer_) {
      const auto id = [](TokenId t) { return t >= 0 ? std::optional<int64_t>(t) : std::nullopt; };
      if (c.vocab_size == 0) c.vocab_size = tokenizer_->vocab_size();
      c.bos_token_id = id(tokenizer_->bos_id() >= 0 ? tokenizer_->bos_id() : tokenizer_->eos_id());
      c.eos_token_id = id(tokenizer_->eos_id());
      c.pad_token_id = id(tokenizer_->pad_id());
    }
    model_.emplace(c);
    c = model_->config();
  }
  model_->params().allocate_gradients();
  stores_ = {&model_->params()};
  if (tokenizer_) {
    for (TokenId t = 0; t < tokenizer_->vocab_size(); ++t) {
      bytes_of_.push_back(
          tokenizer_->is_special(t) ? 0 : static_cast<int64_t>(tokenizer_->surface(t, false).size()));
    }
  }
}

void PretrainRun::open_windows() {
  const int64_t T = training().sequence_length;
  windows_.emplace(data_.training, T, static_cast<uint64_t>(training().seed));
  if (windows_->windows() > 0) return;
  int64_t tokens = 0;
  for (const auto& source : data_.training) tokens += source.stream.size();
  throw Error(
      cat("data.train: expected more than training.sequence_length = ", T, " tokens, found ", tokens));
}

void PretrainRun::initialize() {
  if (config_.init_from.empty()) model_->initialize(static_cast<uint64_t>(training().seed));
}

std::vector<int64_t> PretrainRun::largest_batch(int64_t batch_size) const {
  return std::vector<int64_t>(static_cast<size_t>(batch_size), training().sequence_length);
}

int64_t PretrainRun::step_tokens() const {
  const TrainingConfig& t = training();
  return t.batch_size * t.sequence_length * t.gradient_accumulation_steps;
}

int64_t PretrainRun::first_sample(int64_t step) const {
  return step * training().batch_size * training().gradient_accumulation_steps;
}

void PretrainRun::say_plan() const {
  const ModelConfig& c = config_.model;
  int64_t tokens = 0;
  for (const auto& source : data_.training) tokens += source.stream.size();
  const auto number = [](int64_t n) { return human_count(static_cast<double>(n)); };
  info(cat("model: ", c.model_type, ", ", number(model_->params().count()), " parameters, ",
           c.num_hidden_layers, " layers of ", c.hidden_size, ", vocabulary ", c.vocab_size));
  const int64_t total = step_tokens() * training().schedule.max_steps;
  std::ostringstream epochs;
  epochs.precision(3);
  epochs << static_cast<double>(total) / static_cast<double>(tokens);
  info(cat("data: ", number(tokens), " training tokens, ", number(data_.validation.size()),
           " validation tokens"));
  info(cat("run: ", training().schedule.max_steps, " steps of ", number(step_tokens()),
           " tokens: ", number(total), " tokens, ", epochs.str(), " epochs, ", pool_.size(), " threads"));
}

TrainingRun::MicroBatch PretrainRun::micro_batch(int64_t i) {
  const int64_t B = training().batch_size, T = training().sequence_length;
  inputs_.resize(static_cast<size_t>(B * T));
  targets_.resize(inputs_.size());
  for (int64_t b = 0; b < B; ++b) {
    const auto at = static_cast<size_t>(b * T);
    windows_->sample(static_cast<uint64_t>(first_sample(state_.step) + i * B + b), &inputs_[at],
                     &targets_[at]);
  }
  return {Batch::of(inputs_, B), targets_};
}

std::optional<TrainingRun::Evaluation> PretrainRun::take_evaluation() {
  const TrainingConfig& t = training();
  const int64_t T = t.sequence_length;
  int64_t windows = data_.validation.windows(T);
  if (config_.evaluation.max_sequences > 0) windows = std::min(windows, config_.evaluation.max_sequences);
  if (windows == 0) return {};
  Evaluation result;
  LossSums& sums = result.sums;
  int64_t bytes = 0;
  std::vector<int32_t> window(static_cast<size_t>(T + 1));
  inputs_.resize(static_cast<size_t>(t.batch_size * T));
  targets_.resize(inputs_.size());
  for (int64_t first = 0; first < windows; first += t.batch_size) {
    const int64_t n = std::min(t.batch_size, windows - first);
    for (int64_t b = 0; b < n; ++b) {
      data_.validation.copy((first + b) * T, T + 1, window.data());
      std::copy(window.begin(), window.end() - 1, inputs_.begin() + b * T);
      std::copy(window.begin() + 1, window.end(), targets_.begin() + b * T);
    }
    const auto count = static_cast<size_t>(n * T);
    const LossSums more = model_->evaluate(*exec_, Batch::of(std::span(inputs_).first(count), n),
                                           std::span(targets_).first(count));
    sums.loss += more.loss;
    sums.count += more.count;
    for (size_t i = 0; i < count && !bytes_of_.empty(); ++i) {
      const auto id = static_cast<size_t>(targets_[i]);
      bytes += id < bytes_of_.size() ? bytes_of_[id] : 0;
    }
  }
  const double perplexity = std::exp(sums.loss / static_cast<double>(sums.count));
  const double bits = sums.loss / std::log(2.0) / static_cast<double>(bytes);
  result.columns["val_perplexity"] = perplexity;
  result.columns["val_bits_per_byte"] =
      bytes > 0 ? nlohmann::ordered_json(bits) : nlohmann::ordered_json(nullptr);
  std::ostringstream text;
  text.precision(4);
  text << ", perplexity " << perplexity;
  if (bytes > 0) text << ", " << bits << " bits per byte";
  result.text = text.str();
  return result;
}

void PretrainRun::save_weights(const std::filesystem::path& checkpoint) const {
  save_model(checkpoint / "model", DType::f32);
}

void PretrainRun::load_weights_of(const std::filesystem::path& checkpoint) {
  load_weights(*model_, checkpoint / "model");
}

std::filesystem::path PretrainRun::save_result() const {
  save_model(folder_.path() / "model", training().save_dtype == "bfloat16" ? DType::bf16 : DType::f32);
  return folder_.path() / "model";
}

RunOutcome pretrain(ThreadPool& pool, const PretrainConfig& config, const RunOptions& options) {
  return PretrainRun(pool, config, options).run();
}

}  // namespace llmtool
