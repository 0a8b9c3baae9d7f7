// FinetuneRun: what it opens, says and leaves.

#include <algorithm>
#include <iomanip>

#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/data/lint.h"
#include "llmtool/io/files.h"
#include "train/base_model.h"
#include "train/finetune_run.h"
#include "train/trained_params.h"

namespace llmtool {

namespace {
namespace fs = std::filesystem;

std::string number(int64_t n) { return human_count(static_cast<double>(n)); }

std::string percent(double share) {
  std::ostringstream out;
  out << std::setprecision(3) << 100 * share << " %";
  return out.str();
}
}  // namespace

nlohmann::ordered_json FinetuneRun::config_json() const {
  FinetuneConfig copy = config_;
  return write_config([&](ConfigVisitor& v) { copy.visit(v); });
}

uint64_t FinetuneRun::data_hash() const {
  return mix64(data_.examples.train.hash() ^ mix64(data_.examples.validation.hash()));
}

void FinetuneRun::prepare() {
  config_.check();
  base_ = ModelSource::open(config_.model);
  check_writable(*base_, "model.path");
  config_.settle(base_->config().context());
  Schedule& schedule = config_.training.schedule;
  schedule.max_steps = config_.max_steps > 0 ? config_.max_steps : ConfigVisitor::kMaxInteger;
  config_.check_course(base_->config().context());  // before the data, which may take long
  load_data();
  schedule.max_steps = config_.steps(batches_->steps_per_epoch());
  config_.check_course(base_->config().context());
  open_model();
}

/// Says what the linter found and refuses what is not allowed.
void FinetuneRun::check_examples() const {
  const LintReport report = lint(*tokenizer_, data_.examples, base_->config().vocab_size);
  info(report.text());
  report.require(allow_);
  if (data_.examples.train.size() == 0) throw Error("data.train: expected examples, found none");
  const size_t labels = data_.examples.labels.size();
  if (classifies() && labels < 2)
    throw Error(cat("data.label_column: expected at least 2 labels, found ", labels));
}

ExampleBatches::Options FinetuneRun::batch_options() const {
  ExampleBatches::Options options;
  options.batch_size = training().batch_size;
  options.accumulation = training().gradient_accumulation_steps;
  options.pack_length = config_.data.packing ? training().sequence_length : 0;
  options.shuffle = config_.data.shuffle;
  options.seed = static_cast<uint64_t>(training().seed);
  return options;
}

void FinetuneRun::load_data() {
  data_ = load_finetune_data(pool_, config_, *base_);
  tokenizer_ = data_.tokenizer;
  check_examples();
  batches_.emplace(data_.examples.train, config_.data.train, batch_options());
}

void FinetuneRun::open_model() {
  if (classifies()) {
    bool fresh = false;
    model_.emplace(
        open_classifier(*base_, data_.examples.labels, static_cast<uint64_t>(training().seed), &fresh));
    if (fresh) info(cat("model: a fresh classification head for ", data_.examples.labels.size(), " labels"));
  } else {
    model_.emplace(open_language_model(*base_));
  }
  freeze_params(*model_, config_.freeze, config_.train_last);
  model_->params().allocate_gradients();
  set_rates(model_->params(), config_.learning_rates, training().schedule.learning_rate);
  stores_ = {&model_->params()};
}

void FinetuneRun::say_plan() const {
  const ModelConfig& c = model_->config();
  const int64_t all = parameter_count(stores_), learnt = trainable_count(stores_);
  info(cat("model: ", c.model_type, ", ", number(all), " parameters, ", c.num_hidden_layers, " layers of ",
           c.hidden_size, ", vocabulary ", c.vocab_size));
  info(cat("trained: ", number(learnt), " parameters, ",
           percent(static_cast<double>(learnt) / static_cast<double>(all)), " of all"));
  const int64_t steps = training().schedule.max_steps, per_epoch = batches_->steps_per_epoch();
  std::ostringstream epochs;
  epochs.precision(3);
  epochs << static_cast<double>(steps) / static_cast<double>(per_epoch);
  info(cat("run: ", steps, " steps of ", training().batch_size * training().gradient_accumulation_steps,
           config_.data.packing ? " packs, " : " examples, ", epochs.str(), " epochs of ", batches_->units(),
           config_.data.packing ? " packs and " : " examples and ", number(batches_->tokens()), " tokens, ",
           pool_.size(), " threads"));
}

std::vector<int64_t> FinetuneRun::largest_batch(int64_t batch_size) const {
  ExampleBatches::Options options = batch_options();
  options.batch_size = batch_size;
  const ExampleBatches batches(data_.examples.train, config_.data.train, options);
  int64_t tokens = batches.most_tokens(training().schedule.max_steps * training().batch_size / batch_size);
  int64_t longest = 1, group = 0;  // of evaluation, whose batches come in the order of the rows
  for (int64_t i = 0; i < data_.examples.train.size(); ++i)
    longest = std::max(longest, static_cast<int64_t>(data_.examples.train[i].ids.size()));
  for (int64_t i = 0; i < data_.examples.validation.size(); ++i) {
    const auto length = static_cast<int64_t>(data_.examples.validation[i].ids.size());
    longest = std::max(longest, length);
    group = i % batch_size == 0 ? length : group + length;
    tokens = std::max(tokens, group);
  }
  // Memory depends on the tokens, the longest sequence, the rows of a head, and whether lengths are unequal.
  std::vector<int64_t> lengths;
  for (int64_t rest = tokens; rest > 0; rest -= lengths.back()) lengths.push_back(std::min(rest, longest));
  lengths.resize(std::max(lengths.size(), static_cast<size_t>(batch_size)) + 1, 1);
  return lengths;
}

const char* FinetuneRun::last_advice() const {
  return "take a shorter training.sequence_length, train fewer parameters (--train-last), or take a smaller "
         "model";
}

void FinetuneRun::write_model(const fs::path& folder, DType stored) const {
  save_model(folder, stored);
  // The base's own says more than a config of ours.
  const char* const settings = "generation_config.json";
  if (model_->config().generates() && fs::is_regular_file(base_->path() / settings))
    write_file(folder / settings, read_file(base_->path() / settings));
  // Who uses the model must write conversations as it has learnt them.
  if (!config_.data.chat_template.empty())
    write_file(folder / "chat_template.jinja", data_.examples.template_source);
}

void FinetuneRun::save_weights(const fs::path& checkpoint) const {
  write_model(checkpoint / "model", DType::f32);
}

void FinetuneRun::load_weights_of(const fs::path& checkpoint) { load_weights(*model_, checkpoint / "model"); }

fs::path FinetuneRun::save_result() const {
  write_model(folder_.path() / "model", training().save_dtype == "bfloat16" ? DType::bf16 : DType::f32);
  return folder_.path() / "model";
}

void FinetuneRun::describe(RunReport& report) const {
  const auto percentage = [](double q) { return q == 0 ? "shortest" : q == 1 ? "longest" : percent(q); };
  RunReport::Table lengths{"Lengths of the examples, in tokens", {"examples"}, {}};
  for (const double q : LengthStatistics::kQuantiles) lengths.columns.push_back(percentage(q));
  for (const char* more : {"count", "tokens", "trained"}) lengths.columns.emplace_back(more);
  std::vector<std::pair<const char*, const ExampleSet*>> sets = {{"training", &data_.examples.train}};
  if (data_.examples.validation.size() > 0) sets.emplace_back("validation", &data_.examples.validation);
  for (const auto& [name, set] : sets) {
    const LengthStatistics s = set->statistics();
    std::vector<std::string> row = {name};
    for (const int64_t length : s.lengths) row.push_back(std::to_string(length));
    for (const int64_t count : {s.examples, s.tokens, s.trained}) row.push_back(std::to_string(count));
    lengths.rows.push_back(row);
  }
  report.tables.push_back(lengths);
  if (!classifies()) return;
  RunReport::Table labels{"Examples of each label", {"label"}, {}};
  for (const auto& [name, set] : sets) labels.columns.emplace_back(name);
  for (size_t k = 0; k < data_.examples.labels.size(); ++k) {
    std::vector<std::string> row = {data_.examples.labels[k]};
    for (const auto& [name, set] : sets) {
      int64_t count = 0;
      for (int64_t i = 0; i < set->size(); ++i) count += (*set)[i].label == static_cast<int32_t>(k);
      row.push_back(std::to_string(count));
    }
    labels.rows.push_back(row);
  }
  report.tables.push_back(labels);
  if (confusion_) report.tables.push_back(confusion_->table());
}

}  // namespace llmtool
