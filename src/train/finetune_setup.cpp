// FinetuneRun: what it opens and says before step 0.

#include <algorithm>
#include <iomanip>
#include <map>
#include <set>

#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/data/lint.h"
#include "peft/targets.h"
#include "train/base_model.h"
#include "train/finetune_run.h"
#include "train/init_adapter.h"
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

/// New tokens are those of the adapter that a run begins with, in its order: their rows lie there by ids.
void check_new_tokens(const FinetuneConfig& config, const AdapterConfig& from, const ModelSource& model) {
  const auto refuse = [&](const std::string& what) {
    throw UsageError(cat("model.init_adapter: ", config.init_adapter, what));
  };
  if (from.modules_to_save.empty()) {
    if (!config.add_tokens.empty()) refuse(" has no rows for new tokens; leave --add-tokens out");
    return;
  }
  const fs::path base = config.tokenizer.empty() ? model.path() : fs::path(config.tokenizer);
  if (!has_tokenizer(config.init_adapter) || !has_tokenizer(base)) return;
  const auto known = load_tokenizer(base), theirs = load_tokenizer(config.init_adapter),
             ours = with_tokens(known, config.add_tokens);
  bool same = std::max(known->vocab_size(), theirs->vocab_size()) == ours->vocab_size();
  std::string list;
  for (auto id = static_cast<TokenId>(known->vocab_size()); id < theirs->vocab_size(); ++id) {
    list += cat(list.empty() ? "" : ", ", "\"", theirs->piece(id), "\"");
    same = same && ours->piece(id) == theirs->piece(id);
  }
  if (!same)
    refuse(cat(": expected its new tokens in its order by --add-tokens: ", list.empty() ? "none" : list));
}
}  // namespace

nlohmann::ordered_json FinetuneRun::config_json() const {
  FinetuneConfig copy = config_;
  return write_config([&](ConfigVisitor& v) { copy.visit(v); });
}

uint64_t FinetuneRun::data_hash() const {
  return mix64(data_.examples.train.hash() ^ mix64(data_.examples.validation.hash()));
}

uint64_t FinetuneRun::base_hash() const { return frozen_hash(model_->params(), *source_); }

/// A run that goes on has its settings in run.json, and its checkpoints have the weights: the folder that it
/// began with may be gone.
void FinetuneRun::take_adapter_settings() {
  base_ = ModelSource::open(config_.model);
  std::optional<AdapterConfig> from;
  if (options_.resume && folder_.has_checkpoints()) from = adapter_of_run(folder_.path());
  if (!from) {
    from = read_adapter_config(config_.init_adapter);
    check_new_tokens(config_, *from, *base_);
    info(cat("adapter: begins with ", config_.init_adapter));
  }
  nlohmann::json given = config_.adapter_given;
  given["peft_type"] = config_.adapter.peft_type;  // which may be a flag
  if (!config_.adapts()) given.erase("peft_type");
  check_given(given, *from, base_->config(), config_.init_adapter);
  if ((from->task_type == "SEQ_CLS" && !classifies()) || (from->task_type == "CAUSAL_LM" && classifies()))
    throw UsageError(cat("model.init_adapter: ", config_.init_adapter, ": its task_type is ", from->task_type,
                         ", but data.label_column ", classifies() ? "gives classes" : "gives no classes"));
  config_.adapter = *from;
}

/// The data say what the task is; a task that was asked for must be that.
void FinetuneRun::settle_task() {
  const std::string task = classifies() ? "SEQ_CLS" : "CAUSAL_LM";
  const auto asked = config_.adapter_given.find("task_type");
  if (asked != config_.adapter_given.end() && *asked != task && *asked != "" && !asked->is_null())
    throw UsageError(cat("adapter.task_type: expected ", task, ", as data.label_column ",
                         classifies() ? "gives classes" : "gives no classes", ", found ", asked->dump()));
  config_.adapter.task_type = task;
}

void FinetuneRun::prepare() {
  if (!config_.init_adapter.empty()) take_adapter_settings();
  settle_task();
  config_.check();
  if (!base_) base_ = ModelSource::open(config_.model);
  check_writable(*base_, "model.path");
  // Room for the virtual tokens in front of every example.
  const int64_t in_front = config_.adapter.has_virtual_tokens() ? config_.adapter.num_virtual_tokens : 0;
  config_.settle(std::max<int64_t>(2, base_->config().context() - in_front));
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
  const LintReport report = lint(*tokenizer_, data_.examples, vocabulary());
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

namespace {
/// A setting that saves no memory is no success.
void say_quantized(const QuantizedWeights& q, DType type) {
  const int64_t block = dtype_block(type).elements;
  const std::string shape = cat("rows are not whole blocks of ", block, " values",
                                block > 32 ? ", or 32 in the embedding and the head" : "");
  if (q.matrices == 0 && q.kept > 0)
    throw UsageError(cat("model.quantization: no matrix can be ", dtype_name(type), ", as their ", shape));
  info(cat("quantized: ", q.matrices, " matrices to ", dtype_name(type), ", ",
           human_bytes(static_cast<double>(q.bytes))));
  if (q.kept > 0)
    warn(cat("model.quantization: ", q.kept, " matrices are left as they were, as their ", shape));
}
}  // namespace

/// Rows of new tokens that stay as they are made mean nothing.
void FinetuneRun::check_learnt(const Transformer& model, const std::set<std::string>& learnt) const {
  std::vector<std::string> needed = {model.embedding().name};
  if (!classifies() && !model.config().tie_word_embeddings) needed.push_back(model.head_name());
  for (const std::string& name : needed) {
    if (learnt.contains(name)) continue;
    throw UsageError(cat("tokenizer.add_tokens: ", name,
                         " is frozen, so that the new tokens would not be learnt; take --full, a --freeze "
                         "that leaves it out, or --lora, which trains it for them"));
  }
}

void FinetuneRun::open_model() {
  const ModelConfig& files = base_->config();
  BaseChanges changes;
  changes.vocab_size = vocabulary();
  changes.seed = static_cast<uint64_t>(training().seed);
  if (classifies()) {
    changes.labels = data_.examples.labels;
    if (files.head != HeadKind::classification || files.labels != data_.examples.labels)
      info(cat("model: a fresh classification head for ", data_.examples.labels.size(), " labels"));
  } else if (!files.generates()) {
    throw UsageError(cat("model.path: ", base_->path().string(),
                         ": expected a decoder with a language model's head, found another ",
                         files.model_type, " model; data.label_column makes a classifier of it"));
  }
  const int64_t known = std::min(data_.known_tokens, files.vocab_size), tokens = tokenizer_->vocab_size();
  if (!config_.add_tokens.empty() && tokens > known) {
    changes.spare = {known, tokens};  // rows that the files have to spare mean nothing
    info(cat("model: ", tokens - known, " more tokens, from the mean of all"));
    if (config_.adapts()) train_embedding();
  }
  if (config_.adapts()) changes.untie = unties_head(config_.adapter, files);
  end_ = classifies() ? -1 : learnt_end();
  if (end_ >= 0) {
    changes.stop_ids = {end_};
    info(cat("model: will stop at ", tokenizer_->piece(end_), " (", end_,
             "), too, which ends the examples' answers"));
  }
  source_ = change_base(base_, changes);
  LoadOptions options;
  // A pooler that the files lack is drawn: it must learn, and lie in the adapter's folder.
  if (config_.adapts() && source_->config().pooler && !files.pooler) save_module("pooler");
  if (config_.adapts()) {
    options.trains = Adapter::base_parameters(config_.adapter, source_->config());
  } else {
    Transformer skeleton(source_->config());  // its memory is not touched
    freeze_params(skeleton, config_.freeze, config_.train_last);
    std::set<std::string> learnt;
    for (const Param& p : skeleton.params().list()) {
      if (p.trainable) learnt.insert(p.name);
    }
    if (changes.spare.end > 0) check_learnt(skeleton, learnt);
    options.trains = [learnt](const Param& p) { return learnt.contains(p.name); };
  }
  const std::string& storage = config_.quantization;
  if (storage != "none") {
    options.quantize = storage == "q8_0"             ? DType::q8_0
                       : storage == "q4_0"           ? DType::q4_0
                       : config_.double_quantization ? DType::nf4_dq
                                                     : DType::nf4;
  }
  model_.emplace(source_, options);
  if (options.quantize) say_quantized(model_->quantized(), *options.quantize);
  stores_ = {&model_->params()};
  if (config_.adapts()) open_adapter();
  for (ParamStore* store : stores_) store->allocate_gradients();
  set_rates(stores_, config_.learning_rates, training().schedule.learning_rate);
  set_class_weights();
}

TokenId FinetuneRun::learnt_end() const {
  constexpr size_t kBehind =
      3;  // tokens at the end of an answer among which it may stand: a template adds a line break
  std::map<TokenId, int64_t> ends;
  const ExampleSet& set = data_.examples.train;
  for (int64_t i = 0; i < set.size(); ++i) {
    const Example example = set[i];
    for (size_t t = example.ids.size(), seen = 0; t-- > 0 && seen < kBehind;) {
      if (!example.trained[t]) continue;
      ++seen;
      if (!tokenizer_->is_special(example.ids[t])) continue;
      ++ends[example.ids[t]];
      break;
    }
  }
  const auto& stops = base_->config().stop_ids;
  for (const auto& [id, count] : ends) {
    const bool known = std::find(stops.begin(), stops.end(), id) != stops.end();
    if (2 * count > set.size() && !known && id != tokenizer_->bos_id()) return id;
  }
  return -1;
}

int64_t FinetuneRun::vocabulary() const {
  const int64_t files = base_->config().vocab_size;
  return config_.add_tokens.empty() ? files : std::max(files, tokenizer_->vocab_size());
}

void FinetuneRun::save_module(const std::string& name) {
  auto& saved = config_.adapter.modules_to_save;
  if (std::find(saved.begin(), saved.end(), name) == saved.end()) saved.push_back(name);
}

/// New tokens are nothing to a model whose embedding and head do not learn them.
void FinetuneRun::train_embedding() {
  Transformer skeleton(base_->config());  // its memory is not touched
  const auto add = [&](const std::string& parameter) {
    const std::string module = parameter.substr(0, parameter.rfind('.'));
    save_module(module.substr(module.rfind('.') + 1));
  };
  add(skeleton.embedding().name);
  const bool tied = base_->config().tie_word_embeddings;
  if (!classifies() && !tied) add(skeleton.head_name());
  config_.adapter.ensure_weight_tying = tied;
}

/// What PEFT takes otherwise where transformers has a layer's experts in one parameter.
void FinetuneRun::warn_of_experts() const {
  const ModelConfig& c = model_->config();
  bool some = false, all = true;
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
    some = some || c.has_experts(layer);
    all = all && c.has_experts(layer);
  }
  if (!some || config_.adapter.peft_type != "LORA") return;
  if (is_all_linear(config_.adapter.target_modules) && config_.adapter.target_parameters.empty())
    warn(
        "adapter.target_modules: all-linear has no experts and routers in it; adapter.target_parameters "
        "names "
        "them: mlp.experts.gate_up_proj, mlp.experts.down_proj, mlp.gate.weight");
  const auto& list = model_->params().list();
  const bool dense = std::any_of(list.begin(), list.end(), [&](const Param& p) {
    return (p.name.ends_with(".mlp.down_proj.weight") || p.name.ends_with(".mlp.up_proj.weight")) &&
           adapter_->change_of(p.name);
  });
  if (!all && dense && c.model_type == "qwen3_moe")
    warn(
        "adapter.target_modules: PEFT takes gate_proj, up_proj and down_proj for those of experts, and will "
        "not "
        "load what changes layers without experts");
}

void FinetuneRun::open_adapter() {
  adapter_ = std::make_unique<Adapter>(*model_, config_.adapter);
  warn_of_experts();
  adapter_->set_total_steps(training().schedule.max_steps);
  if (config_.adapter.peft_type == "ADALORA" &&
      adapter_->config().total_step != training().schedule.max_steps) {
    warn(cat("adapter.total_step: the ranks are settled by step ", adapter_->config().total_step,
             ", the run has ", training().schedule.max_steps));
  }
  stores_.push_back(&adapter_->params());
  const auto in_front = static_cast<int64_t>(model_->virtual_ids().size());
  if (training().sequence_length + in_front > model_->config().context()) {
    throw UsageError(cat("training.sequence_length: expected at most ", model_->config().context() - in_front,
                         " beside ", in_front, " virtual tokens, found ", training().sequence_length));
  }
  if (config_.loraplus_lr_ratio == 1) return;
  constexpr double kEmbeddingRate = 1e-6;  // as PEFT's optimizer for LoRA+ has it
  for (Param& p : adapter_->params().list()) {
    if (p.name.find(".lora_embedding_") != std::string::npos) {
      p.rate_scale = kEmbeddingRate / training().schedule.learning_rate;
    } else if (p.name.find(".lora_B") != std::string::npos || p.value.shape.rank == 1) {
      p.rate_scale = config_.loraplus_lr_ratio;
    }
  }
}

void FinetuneRun::set_class_weights() {
  if (config_.class_weights.empty()) return;
  const auto& labels = data_.examples.labels;
  class_weights_.assign(labels.size(), 1.0f);
  for (const auto& [label, weight] : config_.class_weights.items()) {
    const auto at = std::find(labels.begin(), labels.end(), label);
    if (at == labels.end()) {
      const std::string near = nearest(label, labels.data(), labels.size());
      throw UsageError(cat("training.class_weights.", label, ": no such label",
                           near.empty() ? "" : cat(", did you mean ", near, "?")));
    }
    class_weights_[static_cast<size_t>(at - labels.begin())] = weight.get<float>();
  }
  if (std::all_of(class_weights_.begin(), class_weights_.end(), [](float w) { return w == 0; }))
    throw UsageError("training.class_weights: expected one that is not 0");
}

void FinetuneRun::initialize() {
  if (!adapter_) return;
  std::vector<int32_t> prompt;
  const std::string& text = config_.adapter.prompt_tuning_init_text;
  if (!text.empty()) {
    prompt = tokenizer_->encode(text, {.add_special_tokens = tokenizer_->adds_special_by_default()});
    prompt.resize(std::min(prompt.size(), static_cast<size_t>(config_.adapter.num_virtual_tokens)));
  }
  adapter_->initialize(static_cast<uint64_t>(training().seed), prompt);
  if (!config_.init_adapter.empty()) adapter_->read(config_.init_adapter);
}

void FinetuneRun::say_plan() const {
  const ModelConfig& c = model_->config();
  const int64_t all = parameter_count(stores_), learnt = trainable_count(stores_);
  info(cat("model: ", c.model_type, ", ", number(all), " parameters, ", c.num_hidden_layers, " layers of ",
           c.hidden_size, ", vocabulary ", c.vocab_size));
  info(cat("trained: ", number(learnt), " parameters, ",
           percent(static_cast<double>(learnt) / static_cast<double>(all)), " of all"));
  const std::vector<double> repeats = batches_->repeats();
  for (size_t s = 0; s < repeats.size(); ++s) {
    std::ostringstream times;
    times << std::setprecision(3) << repeats[s];
    info(cat("data: ", config_.data.train[s].path, ": each example ", times.str(), " times an epoch"));
  }
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
  const auto in_front = static_cast<int64_t>(model_->virtual_ids().size());
  int64_t tokens =
      batches.most_tokens(training().schedule.max_steps * training().batch_size / batch_size, in_front);
  int64_t longest = in_front + 1, group = 0;  // of evaluation, whose batches come in the order of the rows
  for (int64_t i = 0; i < data_.examples.train.size(); ++i)
    longest = std::max(longest, in_front + static_cast<int64_t>(data_.examples.train[i].ids.size()));
  for (int64_t i = 0; i < data_.examples.validation.size(); ++i) {
    const int64_t length = in_front + static_cast<int64_t>(data_.examples.validation[i].ids.size());
    longest = std::max(longest, length);
    group = i % batch_size == 0 ? length : group + length;
    tokens = std::max(tokens, group);
  }
  // Memory depends on the tokens, the longest sequence, the rows of a head, and whether lengths are unequal.
  std::vector<int64_t> lengths;
  for (int64_t rest = tokens; rest > 0; rest -= lengths.back()) lengths.push_back(std::min(rest, longest));
  const int64_t most = std::max(data_.examples.train.size(), data_.examples.validation.size());
  lengths.resize(std::max(lengths.size(), static_cast<size_t>(std::min(batch_size, most))) + 1, in_front + 1);
  return lengths;
}

const char* FinetuneRun::last_advice() const {
  return "take a shorter training.sequence_length, train fewer parameters (--train-last), or take a smaller "
         "model";
}

}  // namespace llmtool
