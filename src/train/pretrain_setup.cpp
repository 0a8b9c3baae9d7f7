// PretrainRun: everything before step 0.

#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/core/version.h"
#include "llmtool/infer/generator.h"
#include "llmtool/io/json.h"
#include "llmtool/model/model_source.h"
#include "train/pretrain_run.h"

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

nlohmann::json config_json(const PretrainConfig& config) {
  PretrainConfig copy = config;
  return nlohmann::json::parse(write_config([&](ConfigVisitor& v) { copy.visit(v); }).dump());
}
}  // namespace

PretrainRun::PretrainRun(ThreadPool& pool, const PretrainConfig& config, const PretrainOptions& options)
    : pool_(pool), config_(config), options_(options), folder_(options.output) {
  if (folder_.has_checkpoints() && !options.resume && !options.dry_run) {
    throw UsageError(cat(options.output.string(),
                         ": holds a run already; --resume continues it, or take another --output"));
  }
  check_config();  // before the data, which may take long
  data_ = prepare_data(pool, config_, folder_.path());
  open_model();
  config_.check();
  check_data();
  plan_memory();
  say_plan();
}

void PretrainRun::check_config() const {
  PretrainConfig trial = config_;
  if (!trial.training.init_from.empty()) {
    trial.model = ModelSource::open(trial.training.init_from)->config();
    if (trial.model.rope_scaling.scaling == RopeScaling::factors) {
      throw UsageError(
          cat("training.init_from: ", trial.training.init_from,
              ": rope_freqs.weight: the config.json that training writes has no key for these factors"));
    }
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
  if (!config_.training.init_from.empty()) {
    model_.emplace(load_transformer(config_.training.init_from));
    const ModelConfig& loaded = model_->config();
    if (data_.tokenizer && loaded.vocab_size < data_.tokenizer->vocab_size()) {
      throw UsageError(cat("tokenizer: its ", data_.tokenizer->vocab_size(),
                           " pieces do not fit the model's vocabulary of ", loaded.vocab_size));
    }
    c = loaded;
  } else {
    if (data_.tokenizer) {
      const auto id = [](TokenId t) { return t >= 0 ? std::optional<int64_t>(t) : std::nullopt; };
      if (c.vocab_size == 0) c.vocab_size = data_.tokenizer->vocab_size();
      c.bos_token_id =
          id(data_.tokenizer->bos_id() >= 0 ? data_.tokenizer->bos_id() : data_.tokenizer->eos_id());
      c.eos_token_id = id(data_.tokenizer->eos_id());
      c.pad_token_id = id(data_.tokenizer->pad_id());
    }
    model_.emplace(c);
    c = model_->config();
  }
  model_->params().allocate_gradients();
  optimizer_ = std::make_unique<AdamW>(model_->params(), config_.training.adam);
  if (data_.tokenizer) {
    for (TokenId t = 0; t < data_.tokenizer->vocab_size(); ++t) {
      bytes_of_.push_back(data_.tokenizer->is_special(t)
                              ? 0
                              : static_cast<int64_t>(data_.tokenizer->surface(t, false).size()));
    }
  }
}

void PretrainRun::check_data() const {
  const int64_t T = config_.training.sequence_length;
  int64_t tokens = 0;
  for (const auto& source : data_.training) tokens += source.stream.size();
  const WindowSampler sampler(data_.training, T, static_cast<uint64_t>(config_.training.seed));
  if (sampler.windows() == 0) {
    throw Error(
        cat("data.train: expected more than training.sequence_length = ", T, " tokens, found ", tokens));
  }
}

MemoryPlan PretrainRun::measure(const TrainingConfig& training, size_t* saved, size_t* scratch) {
  Arena saved_arena, scratch_arena;
  Exec exec{pool_, saved_arena, scratch_arena, Rng()};
  const size_t tokens = static_cast<size_t>(training.batch_size * training.sequence_length);
  const MemoryBlock untouched(tokens * sizeof(int32_t));
  const std::span ids(reinterpret_cast<const int32_t*>(untouched.data()), tokens);
  model_->train_step(exec, Batch::of(ids, training.batch_size), ids, {}, training.gradient_checkpointing);
  model_->evaluate(exec, Batch::of(ids, training.batch_size), ids);
  *saved = saved_arena.peak();
  *scratch = scratch_arena.peak();
  const size_t weights = static_cast<size_t>(model_->params().count()) * sizeof(float);
  MemoryPlan plan;
  plan.parts = {{"weights", weights},
                {"gradients", weights},
                {"optimizer", 2 * weights},
                {"activations", *saved},
                {"working memory", *scratch}};
  return plan;
}

void PretrainRun::plan_memory() {
  const size_t base = resident_bytes();
  size_t saved = 0, scratch = 0;
  plan_ = measure(config_.training, &saved, &scratch);
  if (data_.tokenizer) {
    const ModelConfig& c = config_.model;
    const size_t positions = static_cast<size_t>(std::min(c.context(), config_.sample.max_new_tokens + 64));
    plan_.parts.emplace_back(
        "samples",
        generation_scratch(*model_, pool_, 1, false) +
            positions * static_cast<size_t>(2 * c.num_hidden_layers * c.kv_heads() * c.head_dim) * 4);
  }
  plan_.parts.emplace_back("program", base);
  const size_t free = available_bytes();
  if (plan_.total() - base > free) {
    std::string advice;
    TrainingConfig smaller = config_.training;
    while (advice.empty() && (smaller.batch_size > 1 || !smaller.gradient_checkpointing)) {
      if (smaller.gradient_checkpointing) {
        smaller.batch_size /= 2;
      }
      smaller.gradient_checkpointing = true;
      size_t a = 0, b = 0;
      if (measure(smaller, &a, &b).total() <= free) {
        advice = cat("; training.batch_size=", smaller.batch_size,
                     " with training.gradient_checkpointing=true would fit",
                     smaller.batch_size < config_.training.batch_size
                         ? " (raise gradient_accumulation_steps to keep the tokens per step)"
                         : "");
      }
    }
    throw Error(cat("not enough memory: ", human_bytes(static_cast<double>(free)), " available; ",
                    plan_.text(),
                    advice.empty() ? "; no batch size would fit: take a smaller model" : advice));
  }
  saved_ = std::make_unique<Arena>(saved);
  scratch_ = std::make_unique<Arena>(scratch);
  exec_ = std::make_unique<Exec>(Exec{pool_, *saved_, *scratch_, Rng()});
}

int64_t PretrainRun::step_tokens() const {
  const TrainingConfig& t = config_.training;
  return t.batch_size * t.sequence_length * t.gradient_accumulation_steps;
}

void PretrainRun::say_plan() const {
  const ModelConfig& c = config_.model;
  int64_t tokens = 0;
  for (const auto& source : data_.training) tokens += source.stream.size();
  const auto number = [](int64_t n) { return human_count(static_cast<double>(n)); };
  info(cat("model: ", c.model_type, ", ", number(model_->params().count()), " parameters, ",
           c.num_hidden_layers, " layers of ", c.hidden_size, ", vocabulary ", c.vocab_size));
  const int64_t total = step_tokens() * config_.training.schedule.max_steps;
  std::ostringstream epochs;
  epochs.precision(3);
  epochs << static_cast<double>(total) / static_cast<double>(tokens);
  info(cat("data: ", number(tokens), " training tokens, ", number(data_.validation.size()),
           " validation tokens"));
  info(cat("run: ", config_.training.schedule.max_steps, " steps of ", number(step_tokens()),
           " tokens: ", number(total), " tokens, ", epochs.str(), " epochs, ", pool_.size(), " threads"));
  info(cat("memory: ", plan_.text()));
}

void PretrainRun::check_same_run() const {
  const std::filesystem::path file = folder_.path() / "run.json";
  if (!std::filesystem::exists(file)) return;
  const nlohmann::json run = read_json(file);
  std::map<std::string, nlohmann::json> before, now;
  flatten(run.value("config", nlohmann::json::object()), "", before);
  flatten(config_json(config_), "", now);
  std::string differences;
  for (const auto& [key, value] : now) {
    if (harmless(key) || (before.contains(key) && before[key] == value)) continue;
    differences += cat("\n  ", key, ": ", before.contains(key) ? before[key].dump() : "nothing",
                       " before, now ", value.dump());
  }
  if (const std::string was = run.value("data_hash", ""); was != hex(data_.hash)) {
    differences += cat("\n  data: hash ", was, " before, now ", hex(data_.hash));
  }
  if (differences.empty()) return;
  const std::string message = cat("this is not the run that was begun:", differences);
  if (!options_.allow_config_changes)
    throw UsageError(message + "\n--allow-config-changes resumes all the same");
  warn(message);
}

void PretrainRun::write_run_json() const {
  nlohmann::ordered_json run;
  run["version"] = version();
  run["command"] = "pretrain";
  run["seed"] = config_.training.seed;
  run["data_hash"] = hex(data_.hash);
  run["parameters"] = model_->params().count();
  PretrainConfig copy = config_;
  run["config"] = write_config([&](ConfigVisitor& v) { copy.visit(v); });
  write_file(folder_.path() / "run.json", run.dump(2) + "\n");
}

void PretrainRun::prepare_windows() {
  windows_.emplace(data_.training, config_.training.sequence_length,
                   static_cast<uint64_t>(config_.training.seed));
  inputs_.resize(static_cast<size_t>(config_.training.batch_size * config_.training.sequence_length));
  targets_.resize(inputs_.size());
}

void PretrainRun::start_or_resume() {
  prepare_windows();
  std::optional<RunFolder::Checkpoint> checkpoint;
  if (options_.resume) {
    check_same_run();
    checkpoint = folder_.latest_checkpoint();
    if (!checkpoint) warn("no whole checkpoint to resume from: starting at step 0");
  }
  if (checkpoint) {
    load(*checkpoint);
    info(cat("resumed from ", checkpoint->path.string(), " at step ", state_.step));
  } else if (config_.training.init_from.empty()) {
    model_->initialize(static_cast<uint64_t>(config_.training.seed));
  }
  folder_.rewind_metrics(checkpoint ? state_.step : -1);
  write_run_json();
  first_step_ = state_.step;
  start_ = std::chrono::steady_clock::now();
}

}  // namespace llmtool
