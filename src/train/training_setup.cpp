// TrainingRun: everything before step 0.

#include <map>
#include <numeric>

#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/core/version.h"
#include "llmtool/infer/generator.h"
#include "llmtool/io/json.h"
#include "train/training_run.h"

namespace llmtool {

namespace {
/// "a.b" -> value of every leaf of a config.
void flatten(const nlohmann::json& json, const std::string& path,
             std::map<std::string, nlohmann::json>& leaves) {
  if (!json.is_object()) {
    leaves[path] = json;
    return;
  }
  for (const auto& [key, value] : json.items()) flatten(value, path.empty() ? key : path + "." + key, leaves);
}

/// Keys that do not touch the weights' course.
bool harmless(const std::string& key) {
  for (const char* prefix : {"sample.", "evaluation.", "training.save_", "data.strict"}) {
    if (key.starts_with(prefix)) return true;
  }
  return false;
}
}  // namespace

MemoryPlan TrainingRun::measure(const TrainingConfig& training, size_t* saved, size_t* scratch) {
  Arena saved_arena, scratch_arena;
  Exec exec{pool_, saved_arena, scratch_arena, Rng()};
  const std::vector<int64_t> lengths = largest_batch(training.batch_size);
  const auto tokens = static_cast<size_t>(std::accumulate(lengths.begin(), lengths.end(), int64_t{0}));
  const MemoryBlock untouched(tokens * sizeof(int32_t));
  const std::span ids(reinterpret_cast<const int32_t*>(untouched.data()), tokens);
  const bool of_sequences = model_->config().head == HeadKind::classification;
  const std::span targets = of_sequences ? ids.first(lengths.size()) : ids;
  LossOptions loss;
  set_loss(loss);
  model_->train_step(exec, {ids, lengths}, targets, loss, training.gradient_checkpointing);
  if (of_sequences) {
    const auto labels = static_cast<int64_t>(model_->config().labels.size());
    model_->classify(exec, {ids, lengths}, exec.scratch.take({static_cast<int64_t>(lengths.size()), labels}));
  } else {
    model_->evaluate(exec, {ids, lengths}, targets);
  }
  *saved = saved_arena.peak();
  *scratch = scratch_arena.peak();
  const size_t learnt = static_cast<size_t>(trainable_count(stores_)) * sizeof(float);
  MemoryPlan plan;
  size_t weights = 0;
  for (const ParamStore* store : stores_) {
    for (const Param& p : store->list()) weights += p.value.bytes();
  }
  plan.parts = {{"weights", weights},
                {"gradients", learnt},
                {"optimizer", 2 * learnt},
                {"activations", *saved},
                {"working memory", *scratch}};
  return plan;
}

std::string TrainingRun::what_would_fit(size_t free) {
  TrainingConfig smaller = training();
  while (smaller.batch_size > 1 || !smaller.gradient_checkpointing) {
    if (smaller.gradient_checkpointing) smaller.batch_size /= 2;
    smaller.gradient_checkpointing = true;
    size_t saved = 0, scratch = 0;
    if (measure(smaller, &saved, &scratch).total() > free) continue;
    return cat("; training.batch_size=", smaller.batch_size,
               " with training.gradient_checkpointing=true would fit",
               smaller.batch_size < training().batch_size
                   ? " (raise gradient_accumulation_steps to keep the tokens per step)"
                   : "");
  }
  return cat("; no batch size would fit: ", last_advice());
}

void TrainingRun::plan_memory() {
  const size_t base = resident_bytes();
  size_t saved = 0, scratch = 0;
  plan_ = measure(training(), &saved, &scratch);
  const ModelConfig& c = model_->config();
  if (tokenizer_ && c.generates()) {
    const size_t positions = static_cast<size_t>(std::min(c.context(), config().sample.max_new_tokens + 64));
    plan_.parts.emplace_back(
        "samples",
        generation_scratch(*model_, pool_, 1, false) +
            positions * static_cast<size_t>(2 * c.num_hidden_layers * c.kv_heads() * c.head_dim) * 4);
  }
  plan_.parts.emplace_back("program", base);
  const size_t free = available_bytes();
  if (plan_.total() - base > free) {
    throw Error(cat("not enough memory: ", human_bytes(static_cast<double>(free)), " available; ",
                    plan_.text(), what_would_fit(free)));
  }
  saved_ = std::make_unique<Arena>(saved);
  scratch_ = std::make_unique<Arena>(scratch);
  exec_ = std::make_unique<Exec>(Exec{pool_, *saved_, *scratch_, Rng()});
}

void TrainingRun::check_same_run() const {
  const std::filesystem::path file = folder_.path() / "run.json";
  if (folder_.path().empty() || !std::filesystem::exists(file)) return;
  const nlohmann::json run = read_json(file);
  std::map<std::string, nlohmann::json> before, now;
  flatten(run.value("config", nlohmann::json::object()), "", before);
  flatten(nlohmann::json::parse(config_json().dump()), "", now);
  std::string differences;
  for (const auto& [key, value] : now) {
    const bool unset = !before.contains(key) && value.is_array() && value.empty();  // not known then
    if (harmless(key) || unset || (before.contains(key) && before[key] == value)) continue;
    differences += cat("\n  ", key, ": ", before.contains(key) ? before[key].dump() : "nothing",
                       " before, now ", value.dump());
  }
  if (const std::string was = run.value("data_hash", ""); was != hex(data_hash())) {
    differences += cat("\n  data: hash ", was, " before, now ", hex(data_hash()));
  }
  if (const std::string was = run.value("base_hash", hex(base_hash_)); was != hex(base_hash_)) {
    differences += cat("\n  model: hash of its frozen weights ", was, " before, now ", hex(base_hash_));
  }
  if (differences.empty()) return;
  const std::string message = cat("this is not the run that was begun:", differences);
  if (!options_.allow_config_changes)
    throw UsageError(message + "\n--allow-config-changes resumes all the same");
  warn(message);
}

void TrainingRun::write_run_json() const {
  nlohmann::ordered_json run;
  run["version"] = version();
  run["command"] = command();
  run["seed"] = training().seed;
  run["data_hash"] = hex(data_hash());
  if (base_hash_ != 0) run["base_hash"] = hex(base_hash_);
  run["parameters"] = parameter_count(stores_);
  run["config"] = config_json();
  write_file(folder_.path() / "run.json", run.dump(2) + "\n");
}

bool TrainingRun::begin() {
  if (!options_.dry_run || options_.resume) base_hash_ = base_hash();  // which reads all of a base
  std::optional<RunFolder::Checkpoint> checkpoint;
  if (options_.resume) {
    check_same_run();
    checkpoint = folder_.latest_checkpoint();
    if (!checkpoint) warn("no whole checkpoint to resume from: starting at step 0");
  }
  if (checkpoint) {
    load(*checkpoint);
    info(cat("resumed from ", checkpoint->path.string(), " at step ", state_.step));
  } else {
    initialize();
  }
  return checkpoint.has_value();
}

void TrainingRun::start_or_resume() {
  const bool resumed = begin();
  folder_.rewind_metrics(resumed ? state_.step : -1);
  write_run_json();
  first_step_ = state_.step;
  start_ = std::chrono::steady_clock::now();
}

}  // namespace llmtool
