// PretrainRun: what it saves, shows and reports.

#include <fstream>
#include <iomanip>

#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/core/version.h"
#include "llmtool/io/json.h"
#include "train/pretrain_run.h"

namespace llmtool {

namespace {
namespace fs = std::filesystem;

std::string processor_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("model name")) return line.substr(std::min(line.size(), line.find(':') + 2));
  }
  return "unknown";
}

std::string fixed(double value, int digits) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(digits) << value;
  return out.str();
}
}  // namespace

void PretrainRun::save_model(const fs::path& folder, DType stored) const {
  save_transformer(*model_, folder, stored);
  if (data_.tokenizer) data_.tokenizer->save(folder);
}

void PretrainRun::save() {
  if (saved_step_ == state_.step) return;
  saved_path_ =
      folder_.save_checkpoint(state_.step, config_.training.save_total_limit, [&](const fs::path& place) {
        save_model(place / "model", DType::f32);
        optimizer_->save(place / "optimizer.safetensors");
        nlohmann::ordered_json state = {{"step", state_.step},
                                        {"optimizer_steps", optimizer_->steps()},
                                        {"next_sample", state_.step * config_.training.batch_size *
                                                            config_.training.gradient_accumulation_steps},
                                        {"seed", config_.training.seed},
                                        {"evaluations_without_gain", state_.evaluations_without_gain},
                                        {"seconds", elapsed()}};
        if (std::isfinite(state_.best_val_loss)) state["best_val_loss"] = state_.best_val_loss;
        write_file(place / "trainer_state.json", state.dump(2) + "\n");
      });
  saved_step_ = state_.step;
}

void PretrainRun::load(const RunFolder::Checkpoint& checkpoint) {
  const nlohmann::json json = read_json(checkpoint.path / "trainer_state.json");
  const JsonObject state(json, (checkpoint.path / "trainer_state.json").string());
  constexpr int64_t kMax = int64_t{1} << 53;
  state_.step = state.integer("step", 0, kMax);
  state_.best_val_loss = state.number("best_val_loss", std::numeric_limits<double>::infinity());
  state_.evaluations_without_gain = state.integer("evaluations_without_gain", 0, kMax);
  state_.seconds = state.number("seconds", 0);
  load_weights(*model_, checkpoint.path / "model");
  optimizer_->load(checkpoint.path / "optimizer.safetensors", state.integer("optimizer_steps", 0, kMax));
  saved_step_ = state_.step;
  saved_path_ = checkpoint.path;
}

std::string PretrainRun::time_estimate(int64_t steps) const {
  const double tokens = static_cast<double>(steps) * static_cast<double>(step_tokens());
  return cat("time: about ", human_time(tokens / speed_), " at ", human_count(speed_), " tokens/s");
}

void PretrainRun::show_state(double loss, double tokens_per_second) {
  const int64_t steps = config_.training.schedule.max_steps, done = state_.step - first_step_;
  const double spent = elapsed() - state_.seconds;
  const double left = static_cast<double>(steps - state_.step) * static_cast<double>(step_tokens()) / speed_;
  const std::string numbers = cat("step ", state_.step, "/", steps, "  loss ", fixed(loss, 3), "  ",
                                  human_count(tokens_per_second), " tokens/s  ", human_time(left), " left");
  if (done == 5 && steps - state_.step > 5) {
    info(time_estimate(steps - state_.step));
  }
  if (progress_on_terminal()) {
    constexpr int64_t kWidth = 24;
    const int64_t full = kWidth * state_.step / steps;
    std::string bar;
    for (int64_t i = 0; i < kWidth; ++i) bar += i < full ? "█" : "░";
    show_progress(bar + " " + numbers);
  } else if (spent - last_line_ >= 10 || state_.step == steps) {
    last_line_ = spent;
    info(numbers);
  }
}

void PretrainRun::update_report() {
  RunReport report;
  report.title = "llmtool pretrain: " + folder_.path().filename().string();
  const auto human = [](double n) { return human_count(n); };
  report.summary = {{"model", cat(config_.model.model_type, ", ",
                                  human(static_cast<double>(model_->params().count())), " parameters")},
                    {"step", cat(state_.step, " of ", config_.training.schedule.max_steps)},
                    {"tokens seen", human(static_cast<double>(state_.step * step_tokens()))},
                    {"training loss", fixed(loss_, 4)},
                    {"validation loss", fixed(val_loss_, 4)},
                    {"time", human_time(elapsed())}};
  report.metrics = folder_.metrics();
  report.samples = samples_;
  PretrainConfig copy = config_;
  report.config = write_config([&](ConfigVisitor& v) { copy.visit(v); });
  report.environment = {{"llmtool", version()},
                        {"compiler", __VERSION__},
                        {"processor", processor_name()},
                        {"threads", std::to_string(pool_.size())},
                        {"memory plan", plan_.text()},
                        {"peak memory", human_bytes(static_cast<double>(peak_resident_bytes()))}};
  write_report(folder_.path() / "report.html", report);
}

}  // namespace llmtool
