// TrainingRun: the loop.

#include "train/training_run.h"

#include <cmath>

#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/infer/generator.h"

namespace llmtool {

TrainingRun::TrainingRun(ThreadPool& pool, const RunOptions& options)
    : pool_(pool), options_(options), folder_(options.output) {
  if (options.output.empty() && !options.dry_run) throw UsageError("output: expected a folder for the run");
  if (folder_.has_checkpoints() && !options.resume && !options.dry_run) {
    throw UsageError(cat(options.output.string(),
                         ": holds a run already; --resume continues it, or take another --output"));
  }
}

double TrainingRun::elapsed() const {
  return state_.seconds + std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

TrainingRun::StepSums TrainingRun::take_gradients() {
  zero_gradients(*exec_, stores_);
  const double weight = step_weight();
  LossOptions options{.scale = 1.0 / (weight > 0 ? weight : 1), .z_loss = training().z_loss};
  set_loss(options);
  StepSums sums;
  for (int64_t i = 0, n = micro_batches(); i < n; ++i) {
    const MicroBatch micro = micro_batch(i);
    exec_->rng = Rng(static_cast<uint64_t>(training().seed))
                     .split(static_cast<uint64_t>(state_.step))
                     .split(static_cast<uint64_t>(i));
    const LossSums more =
        model_->train_step(*exec_, micro.batch, micro.targets, options, training().gradient_checkpointing);
    sums.loss.loss += more.loss;
    sums.loss.count += more.count;
    sums.loss.weight += more.weight;
    sums.tokens += static_cast<int64_t>(micro.batch.ids.size());
  }
  sums.regularization = regularize();
  return sums;
}

double TrainingRun::update_weights(double rate, double norm) {
  const double most = training().max_grad_norm;
  const double factor = most > 0 ? std::min(1.0, most / (norm + 1e-6)) : 1.0;
  optimizer_->step(*exec_, rate, factor);
  return factor;
}

void TrainingRun::rehearse() {
  begin();
  constexpr int kSteps = 3;  // the first touches fresh memory
  for (int i = 0; i < kSteps; ++i) {
    const double began = elapsed();
    const StepSums sums = take_gradients();
    update_weights(0, gradient_norm(*exec_, stores_));
    speed_ = std::max(speed_, static_cast<double>(sums.tokens) / std::max(1e-9, elapsed() - began));
  }
  info(time_estimate(std::max<int64_t>(0, training().schedule.max_steps - state_.step)));
}

void TrainingRun::train_one_step() {
  const double began = elapsed();
  const StepSums sums = take_gradients();
  loss_ = sums.loss.loss / (sums.loss.weight > 0 ? sums.loss.weight : 1) + sums.regularization;
  const double norm = gradient_norm(*exec_, stores_);
  if (!std::isfinite(loss_) || !std::isfinite(norm)) {
    throw Error(cat("step ", state_.step + 1, ": the loss is ", loss_, " and the gradient norm ", norm,
                    " (samples ", first_sample(state_.step), " to ", first_sample(state_.step + 1) - 1,
                    " of the run); nothing was updated. Last good checkpoint: ",
                    saved_path_.empty() ? "none" : saved_path_.string(),
                    ". Try a lower training.learning_rate"));
  }
  const double rate = training().schedule.at(state_.step);
  const double factor = update_weights(rate, norm);
  ++state_.step;
  after_update(factor);
  const double seconds = std::max(1e-9, elapsed() - began);
  const double speed = static_cast<double>(sums.tokens) / seconds;
  speed_ = speed_ == 0 ? speed : 0.9 * speed_ + 0.1 * speed;
  nlohmann::ordered_json row = {{"step", state_.step},        {"loss", loss_},
                                {"learning_rate", rate},      {"grad_norm", norm},
                                {"tokens_per_second", speed}, {"seconds", elapsed()}};
  describe_step(row);
  try {
    folder_.append_metrics(row);
  } catch (const Error&) {
    save();  // a full disk may still have had room for it
    throw;
  }
  show_state(loss_, speed_);
}

void TrainingRun::evaluate() {
  const auto evaluation = take_evaluation();
  if (!evaluation) return;
  val_loss_ = evaluation->sums.loss / static_cast<double>(std::max<int64_t>(1, evaluation->sums.count));
  if (!std::isfinite(val_loss_)) {
    throw Error(cat("step ", state_.step, ": the validation loss is ", val_loss_,
                    ". Last good checkpoint: ", saved_path_.empty() ? "none" : saved_path_.string(),
                    ". Try a lower training.learning_rate"));
  }
  nlohmann::ordered_json row = {{"step", state_.step}, {"val_loss", val_loss_}};
  row.update(evaluation->columns);
  folder_.append_metrics(row);
  std::ostringstream line;
  line.precision(4);
  line << "step " << state_.step << ": validation loss " << val_loss_;
  info(line.str() + evaluation->text);
  const EvaluationConfig& e = config().evaluation;
  const bool better = val_loss_ < state_.best_val_loss - e.early_stopping_threshold;
  state_.evaluations_without_gain = better ? 0 : state_.evaluations_without_gain + 1;
  if (better) state_.best_val_loss = val_loss_;
}

std::vector<TokenId> TrainingRun::prompt_ids(const std::string& prompt) const {
  std::vector<TokenId> ids = tokenizer_->encode(prompt);
  const TokenId start = tokenizer_->bos_id() >= 0 ? tokenizer_->bos_id() : tokenizer_->eos_id();
  if (ids.empty() && start >= 0) ids = {start};
  return ids;
}

void TrainingRun::write_samples() {
  const SampleConfig& s = config().sample;
  if (!tokenizer_ || s.prompts.empty()) return;
  model_->refresh_adapters(*exec_);
  const ModelConfig& model = model_->config();
  GenerationOptions options;
  options.sampling.temperature = s.temperature;
  options.sampling.top_k = s.top_k;
  options.sampling.top_p = s.top_p;
  options.max_new_tokens = std::min(s.max_new_tokens, model.context());
  options.batch_size = 1;
  options.truncate_left = true;
  options.seed = static_cast<uint64_t>(training().seed);
  options.stop_ids.assign(model.stop_ids.begin(), model.stop_ids.end());
  if (options.stop_ids.empty() && model.eos_token_id)
    options.stop_ids = {static_cast<TokenId>(*model.eos_token_id)};
  Generator generator(*model_, tokenizer_.get(), pool_, options);
  size_t next = 0;
  generator.run(
      [&](GenerationRequest& request) {
        if (next == s.prompts.size()) return false;
        request.prompt = s.prompts[next++];
        request.ids = prompt_ids(request.prompt);
        return true;
      },
      [&](const GenerationResult& r) {
        samples_.push_back({state_.step, r.prompt, r.text});
        info(cat("  | ", r.prompt, r.text));
      });
}

bool TrainingRun::out_of_patience() const {
  const int64_t patience = config().evaluation.early_stopping_patience;
  return patience > 0 && state_.evaluations_without_gain >= patience;
}

void TrainingRun::after_step() {
  const int64_t steps = training().schedule.max_steps;
  const auto due = [&](int64_t every) { return every > 0 && state_.step % every == 0; };
  const bool last = state_.step == steps;
  const bool evaluates = due(config().evaluation.steps) || last;
  if (evaluates) evaluate();
  const bool asked = signals_.take_save() || signals_.stop() != 0;
  if (due(training().save_steps) || last || asked || out_of_patience()) save();
  if (!evaluates) return;
  write_samples();
  update_report();
}

void TrainingRun::finish(RunOutcome& outcome) {
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
  const std::filesystem::path result = save_result();
  info(cat(result.filename().string(), ": ", result.string(),
           ", report: ", (folder_.path() / "report.html").string()));
}

RunOutcome TrainingRun::run() {
  prepare();
  optimizer_ = std::make_unique<AdamW>(stores_, training().adam);
  plan_memory();
  say_plan();
  info(cat("memory: ", plan_.text()));
  RunOutcome outcome;
  outcome.memory = plan_;
  if (options_.dry_run) {
    rehearse();
    outcome.steps = training().schedule.max_steps;
    outcome.tokens_per_second = speed_;
    return outcome;
  }
  start_or_resume();
  if (state_.step == 0) {
    evaluate();
    state_.evaluations_without_gain = 0;
  }
  while (state_.step < training().schedule.max_steps && !out_of_patience()) {
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

}  // namespace llmtool
