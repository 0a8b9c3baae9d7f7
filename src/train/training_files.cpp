// TrainingRun: what it saves, shows and reports.

#include <fstream>
#include <iomanip>

#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/core/version.h"
#include "llmtool/io/json.h"
#include "train/training_run.h"

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

void TrainingRun::save_model(const fs::path& folder, DType stored) const {
  save_transformer(*model_, folder, stored);
  if (tokenizer_) tokenizer_->save(folder);
}

void TrainingRun::save() {
  if (saved_step_ == state_.step) return;
  saved_path_ = folder_.save_checkpoint(state_.step, training().save_total_limit, [&](const fs::path& place) {
    save_weights(place);
    optimizer_->save(place / "optimizer.safetensors");
    nlohmann::ordered_json state = {{"step", state_.step},
                                    {"optimizer_steps", optimizer_->steps()},
                                    {"next_sample", first_sample(state_.step)},
                                    {"seed", training().seed},
                                    {"evaluations_without_gain", state_.evaluations_without_gain},
                                    {"seconds", elapsed()}};
    if (std::isfinite(state_.best_val_loss)) state["best_val_loss"] = state_.best_val_loss;
    write_file(place / "trainer_state.json", state.dump(2) + "\n");
  });
  saved_step_ = state_.step;
}

void TrainingRun::load(const RunFolder::Checkpoint& checkpoint) {
  const nlohmann::json json = read_json(checkpoint.path / "trainer_state.json");
  const JsonObject state(json, (checkpoint.path / "trainer_state.json").string());
  constexpr int64_t kMax = int64_t{1} << 53;
  state_.step = state.integer("step", 0, kMax);
  state_.best_val_loss = state.number("best_val_loss", std::numeric_limits<double>::infinity());
  state_.evaluations_without_gain = state.integer("evaluations_without_gain", 0, kMax);
  state_.seconds = state.number("seconds", 0);
  load_weights_of(checkpoint.path);
  optimizer_->load(checkpoint.path / "optimizer.safetensors", state.integer("optimizer_steps", 0, kMax));
  saved_step_ = state_.step;
  saved_path_ = checkpoint.path;
}

std::string TrainingRun::time_estimate(int64_t steps) const {
  const double tokens = static_cast<double>(steps) * tokens_per_step();
  return cat("time: about ", human_time(tokens / speed_), " at ", human_count(speed_), " tokens/s");
}

void TrainingRun::show_state(double loss, double tokens_per_second) {
  const int64_t steps = training().schedule.max_steps, done = state_.step - first_step_;
  const double spent = elapsed() - state_.seconds;
  const double left = static_cast<double>(steps - state_.step) * tokens_per_step() / speed_;
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

void TrainingRun::update_report() {
  RunReport report;
  report.title = cat("llmtool ", command(), ": ") + folder_.path().filename().string();
  const auto human = [](double n) { return human_count(n); };
  report.summary = {{"model", cat(model_->config().model_type, ", ",
                                  human(static_cast<double>(parameter_count(stores_))), " parameters")},
                    {"step", cat(state_.step, " of ", training().schedule.max_steps)},
                    {"tokens seen", human(static_cast<double>(state_.step) * tokens_per_step())},
                    {"training loss", fixed(loss_, 4)},
                    {"validation loss", fixed(val_loss_, 4)},
                    {"time", human_time(elapsed())}};
  report.metrics = folder_.metrics();
  report.samples = samples_;
  report.config = config_json();
  report.environment = {{"llmtool", version()},
                        {"compiler", __VERSION__},
                        {"processor", processor_name()},
                        {"threads", std::to_string(pool_.size())},
                        {"memory plan", plan_.text()},
                        {"peak memory", human_bytes(static_cast<double>(peak_resident_bytes()))}};
  describe(report);
  write_report(folder_.path() / "report.html", report);
}

}  // namespace llmtool
