// PretrainRun: the loop.

#include "train/pretrain_run.h"

#include <cmath>
#include <csignal>

#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/infer/generator.h"
#include "llmtool/kernels/optimizer.h"

namespace llmtool {

double PretrainRun::elapsed() const {
  return state_.seconds + std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

uint64_t PretrainRun::first_sample() const {
  const TrainingConfig& t = config_.training;
  return static_cast<uint64_t>(state_.step * t.batch_size * t.gradient_accumulation_steps);
}

LossSums PretrainRun::take_gradients() {
  const TrainingConfig& t = config_.training;
  fill_zero(*exec_, model_->params().gradients());
  const LossOptions options{1.0 / static_cast<double>(step_tokens()), t.z_loss};
  LossSums sums;
  for (int64_t micro = 0; micro < t.gradient_accumulation_steps; ++micro) {
    for (int64_t b = 0; b < t.batch_size; ++b) {
      const auto at = static_cast<size_t>(b * t.sequence_length);
      windows_->sample(first_sample() + static_cast<uint64_t>(micro * t.batch_size + b), &inputs_[at],
                       &targets_[at]);
    }
    exec_->rng = Rng(static_cast<uint64_t>(t.seed))
                     .split(static_cast<uint64_t>(state_.step))
                     .split(static_cast<uint64_t>(micro));
    const LossSums more = model_->train_step(*exec_, Batch::of(inputs_, t.batch_size), targets_, options,
                                             t.gradient_checkpointing);
    sums.loss += more.loss;
    sums.count += more.count;
  }
  return sums;
}

void PretrainRun::update_weights(double rate, double norm) {
  const double most = config_.training.max_grad_norm;
  optimizer_->step(*exec_, rate, most > 0 ? std::min(1.0, most / (norm + 1e-6)) : 1.0);
}

void PretrainRun::rehearse() {
  prepare_windows();
  if (config_.training.init_from.empty()) model_->initialize(static_cast<uint64_t>(config_.training.seed));
  constexpr int kSteps = 3;  // the first touches fresh memory
  for (int i = 0; i < kSteps; ++i) {
    const double began = elapsed();
    take_gradients();
    update_weights(0, gradient_norm(*exec_, model_->params()));
    speed_ = std::max(speed_, static_cast<double>(step_tokens()) / std::max(1e-9, elapsed() - began));
  }
  info(time_estimate(config_.training.schedule.max_steps));
}

void PretrainRun::train_one_step() {
  const TrainingConfig& t = config_.training;
  const double began = elapsed();
  const LossSums sums = take_gradients();
  loss_ = sums.loss / static_cast<double>(sums.count);
  const double norm = gradient_norm(*exec_, model_->params());
  if (!std::isfinite(loss_) || !std::isfinite(norm)) {
    throw Error(cat("step ", state_.step + 1, ": the loss is ", loss_, " and the gradient norm ", norm,
                    " (samples ", first_sample(), " to ",
                    first_sample() + static_cast<uint64_t>(t.batch_size * t.gradient_accumulation_steps) - 1,
                    " of the run); nothing was updated. Last good checkpoint: ",
                    saved_path_.empty() ? "none" : saved_path_.string(),
                    ". Try a lower training.learning_rate"));
  }
  const double rate = t.schedule.at(state_.step);
  update_weights(rate, norm);
  ++state_.step;
  const double seconds = std::max(1e-9, elapsed() - began);
  const double speed = static_cast<double>(step_tokens()) / seconds;
  speed_ = speed_ == 0 ? speed : 0.9 * speed_ + 0.1 * speed;
  try {
    folder_.append_metrics({{"step", state_.step},
                            {"loss", loss_},
                            {"learning_rate", rate},
                            {"grad_norm", norm},
                            {"tokens_per_second", speed},
                            {"seconds", elapsed()}});
  } catch (const Error&) {
    save();  // a full disk may still have had room for it
    throw;
  }
  show_state(loss_, speed_);
}

void PretrainRun::evaluate() {
  const TrainingConfig& t = config_.training;
  const int64_t T = t.sequence_length;
  int64_t windows = data_.validation.windows(T);
  if (config_.evaluation.max_windows > 0) windows = std::min(windows, config_.evaluation.max_windows);
  if (windows == 0) return;
  LossSums sums;
  int64_t bytes = 0;
  std::vector<int32_t> window(static_cast<size_t>(T + 1));
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
  val_loss_ = sums.loss / static_cast<double>(sums.count);
  if (!std::isfinite(val_loss_)) {
    throw Error(cat("step ", state_.step, ": the validation loss is ", val_loss_,
                    ". Last good checkpoint: ", saved_path_.empty() ? "none" : saved_path_.string(),
                    ". Try a lower training.learning_rate"));
  }
  nlohmann::ordered_json row = {
      {"step", state_.step}, {"val_loss", val_loss_}, {"val_perplexity", std::exp(val_loss_)}};
  row["val_bits_per_byte"] =
      bytes > 0 ? nlohmann::ordered_json(sums.loss / std::log(2.0) / static_cast<double>(bytes))
                : nlohmann::ordered_json(nullptr);
  folder_.append_metrics(row);
  std::ostringstream line;
  line.precision(4);
  line << "step " << state_.step << ": validation loss " << val_loss_ << ", perplexity "
       << std::exp(val_loss_);
  if (bytes > 0) line << ", " << sums.loss / std::log(2.0) / static_cast<double>(bytes) << " bits per byte";
  info(line.str());
  const bool better = val_loss_ < state_.best_val_loss - config_.evaluation.early_stopping_threshold;
  state_.evaluations_without_gain = better ? 0 : state_.evaluations_without_gain + 1;
  if (better) state_.best_val_loss = val_loss_;
}

void PretrainRun::write_samples() {
  const SampleConfig& s = config_.sample;
  if (!data_.tokenizer || s.prompts.empty()) return;
  GenerationOptions options;
  options.sampling.temperature = s.temperature;
  options.sampling.top_k = s.top_k;
  options.sampling.top_p = s.top_p;
  options.max_new_tokens = std::min(s.max_new_tokens, config_.model.context());
  options.batch_size = 1;
  options.truncate_left = true;
  options.seed = static_cast<uint64_t>(config_.training.seed);
  if (config_.model.eos_token_id) options.stop_ids = {static_cast<TokenId>(*config_.model.eos_token_id)};
  Generator generator(*model_, data_.tokenizer.get(), pool_, options);
  size_t next = 0;
  generator.run(
      [&](GenerationRequest& request) {
        if (next == s.prompts.size()) return false;
        request.prompt = s.prompts[next++];
        request.ids = data_.tokenizer->encode(request.prompt);
        const TokenId start =
            data_.tokenizer->bos_id() >= 0 ? data_.tokenizer->bos_id() : data_.tokenizer->eos_id();
        if (request.ids.empty() && start >= 0) request.ids = {start};
        return true;
      },
      [&](const GenerationResult& r) {
        samples_.push_back({state_.step, r.prompt, r.text});
        info(cat("  | ", r.prompt, r.text));
      });
}

bool PretrainRun::out_of_patience() const {
  const int64_t patience = config_.evaluation.early_stopping_patience;
  return patience > 0 && state_.evaluations_without_gain >= patience;
}

void PretrainRun::after_step() {
  const int64_t steps = config_.training.schedule.max_steps;
  const auto due = [&](int64_t every) { return every > 0 && state_.step % every == 0; };
  const bool last = state_.step == steps;
  const bool evaluates = due(config_.evaluation.steps) || last;
  if (evaluates) evaluate();
  const bool asked = signals_.take_save() || signals_.stop() != 0;
  if (due(config_.training.save_steps) || last || asked || out_of_patience()) save();
  if (!evaluates) return;
  write_samples();
  update_report();
}

void PretrainRun::finish(PretrainOutcome& outcome) {
  show_progress("");
  outcome.steps = state_.step;
  outcome.loss = loss_;
  outcome.val_loss = val_loss_;
  outcome.signal = signals_.stop();
  const size_t peak = peak_resident_bytes();
  info(cat("peak memory ", human_bytes(static_cast<double>(peak)), ", planned ",
           human_bytes(static_cast<double>(plan_.total()))));
  update_report();
  if (outcome.signal) {
    info(cat("stopped by signal ", outcome.signal, " after step ", state_.step, "; --resume continues"));
    return;
  }
  save_model(folder_.path() / "model", config_.training.save_dtype == "bfloat16" ? DType::bf16 : DType::f32);
  info(cat("model: ", (folder_.path() / "model").string(),
           ", report: ", (folder_.path() / "report.html").string()));
}

PretrainOutcome PretrainRun::run() {
  PretrainOutcome outcome;
  if (options_.dry_run) {
    rehearse();
    return outcome;
  }
  start_or_resume();
  if (state_.step == 0) {
    evaluate();
    state_.evaluations_without_gain = 0;
  }
  while (state_.step < config_.training.schedule.max_steps && !out_of_patience()) {
    train_one_step();
    after_step();
    if (signals_.stop()) break;
  }
  if (out_of_patience()) {
    info(cat("stopped early: ", state_.evaluations_without_gain, " evaluations without a better loss than ",
             state_.best_val_loss));
  }
  finish(outcome);
  return outcome;
}

PretrainOutcome pretrain(ThreadPool& pool, const PretrainConfig& config, const PretrainOptions& options) {
  return PretrainRun(pool, config, options).run();
}

}  // namespace llmtool
