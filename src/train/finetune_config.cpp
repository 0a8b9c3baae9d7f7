#include "llmtool/train/finetune_config.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "llmtool/core/error.h"
#include "llmtool/text/regex.h"

namespace llmtool {

namespace {
constexpr double kFullRate = 2e-5, kAdapterRate = 2e-4;
constexpr int64_t kUsualLength = 1024;

/// Throws UsageError; whether it finds a parameter is only known beside the model.
void check_expression(const char* key, const std::string& pattern) {
  try {
    const Regex compiled(pattern, key, Regex::Syntax::pcre);
  } catch (const Error& e) {
    throw UsageError(e.what());
  }
}

void visit_training(ConfigVisitor& v, FinetuneConfig& c) {
  TrainingConfig& t = c.training;
  v.number("num_train_epochs", c.num_train_epochs, {0, 1e6}, "times that every example is seen");
  v.integer("max_steps", c.max_steps, {0}, "optimizer steps; 0: by the epochs");
  v.integer("batch_size", t.batch_size, {1, 1 << 20}, "examples, or packs of them, computed at a time");
  v.integer("sequence_length", c.sequence_length, {2, 1 << 24},
            "most tokens of an example; null: 1024, or the model's context if less");
  v.integer("gradient_accumulation_steps", t.gradient_accumulation_steps, {1, 1 << 20}, "batches per step");
  std::string loss_on = kLossOnNames[static_cast<size_t>(c.loss_on)];
  v.choice("loss_on", loss_on, kLossOnNames, "the tokens that are learnt");
  c.loss_on = loss_on_of(loss_on);
  v.string("freeze", c.freeze, "regular expression: parameters whose names it finds are not learnt");
  v.integer("train_last", c.train_last, {0, 1 << 20},
            "learn the last blocks alone, the final norm and a head that is not tied; 0: all");
  v.number("learning_rate", c.learning_rate, {0, 1e3}, "highest rate; null: 2e-4 of an adapter, else 2e-5");
  v.objects(
      "learning_rates", c.learning_rates.size(), "parameters with a rate of their own: the first that fits",
      [&](size_t n) { c.learning_rates.resize(n); },
      [&](ConfigVisitor& s, size_t i) {
        s.string("pattern", c.learning_rates[i].pattern, "regular expression, found in their names");
        s.number("learning_rate", c.learning_rates[i].learning_rate, {0, 1e3}, "highest rate");
      });
  v.number("loraplus_lr_ratio", c.loraplus_lr_ratio, {0, 1e6}, "LoRA+: rate of B against that of A");
  v.number("neftune_noise_alpha", c.neftune_noise_alpha, {0, 1e6},
           "noise on embeddings while learning; 0: none");
  v.number("label_smoothing_factor", c.label_smoothing_factor, {0, 0.999},
           "share of a target that all tokens, or labels, divide");
  v.raw("class_weights", c.class_weights,
        "label: factor of the loss of its examples; 1 where it is not named");
  t.visit_course(v);
}
}  // namespace

FinetuneConfig::FinetuneConfig() {
  training.batch_size = 4;
  training.schedule.type = "linear";
  training.schedule.min_learning_rate = 0;
  training.adam.beta2 = 0.999;
  training.adam.weight_decay = 0;
}

void FinetuneConfig::visit(ConfigVisitor& v) {
  v.section("model", "what is adapted", [&](ConfigVisitor& s) {
    s.string("path", model, "model folder, run, .gguf file or llama2.c .bin");
    s.choice(
        "quantization", quantization, {"none", "q8_0", "q4_0", "nf4"},
        "storage of the matrices that an adapter leaves as they are (QLoRA); none: as the files have them");
    s.boolean("double_quantization", double_quantization, "of nf4's scales, too");
    s.string("init_adapter", init_adapter, "PEFT folder to start from, with its settings");
  });
  v.section("tokenizer", "what turns text into ids", [&](ConfigVisitor& s) {
    s.string("path", tokenizer, "tokenizer folder or file; empty: the model's");
    s.strings("add_tokens", add_tokens,
              "texts that become tokens of their own, from the mean of all embeddings");
  });
  v.section("adapter", "an adapter beside the model's frozen weights, with PEFT's keys",
            [&](ConfigVisitor& s) { adapter.visit(s); });
  v.section("data", "what is learnt", [&](ConfigVisitor& s) { data.visit(s); });
  v.section("training", "how it is learnt", [&](ConfigVisitor& s) { visit_training(s, *this); });
  v.section("evaluation", "what is measured", [&](ConfigVisitor& s) { evaluation.visit(s, "max_examples"); });
  v.section("sample", "texts written at evaluations", [&](ConfigVisitor& s) { sample.visit(s); });
}

void FinetuneConfig::check() const {
  if (model.empty()) throw UsageError("model.path: expected the model to adapt (or --model PATH)");
  data.check();
  if (max_steps == 0 && num_train_epochs <= 0)
    throw UsageError("training.num_train_epochs: expected more than 0 where max_steps is 0, found 0");
  if (data.classifies() && data.packing)
    throw UsageError("data.packing: expected false where data.label_column gives classes");
  if (data.classifies() && !sample.prompts.empty())
    throw UsageError("sample.prompts: expected none where data.label_column gives classes");
  adapter.check();
  check_expression("training.freeze", freeze);
  for (const auto& rate : learning_rates) check_expression("training.learning_rates.pattern", rate.pattern);
  if (adapts() && (!freeze.empty() || train_last > 0))
    throw UsageError(
        "training.freeze, training.train_last: expected none beside adapter.peft_type, which freezes all");
  if (!add_tokens.empty() && adapts() && !adapter.is_lora() && adapter.peft_type != "IA3")
    throw UsageError(
        "tokenizer.add_tokens: expected LORA, ADALORA or IA3, whose folders can hold an embedding, found " +
        adapter.peft_type);
  if (quantization != "none" && !adapts())
    throw UsageError("model.quantization: expected an adapter, as weights that learn are not quantized");
  if (double_quantization && quantization != "nf4")
    throw UsageError("model.double_quantization: expected model.quantization nf4, found " + quantization);
  if (loraplus_lr_ratio != 1 && adapter.peft_type != "LORA")
    throw UsageError("training.loraplus_lr_ratio: expected adapter.peft_type LORA beside it");
  if (!class_weights.empty() && !data.classifies())
    throw UsageError("training.class_weights: expected data.label_column beside it");
  for (const auto& [label, weight] : class_weights.items()) {
    if (!weight.is_number() || weight.get<double>() < 0)
      throw UsageError(cat("training.class_weights.", label, ": expected a number >= 0"));
  }
  if (!learning_rates.empty() && learning_rate && *learning_rate == 0)
    throw UsageError("training.learning_rate: expected more than 0 beside training.learning_rates");
}

void FinetuneConfig::settle(int64_t context) {
  if (!sequence_length) sequence_length = std::min(kUsualLength, context);
  if (!learning_rate) learning_rate = adapts() ? kAdapterRate : kFullRate;
  training.sequence_length = *sequence_length;
  training.schedule.learning_rate = *learning_rate;
}

int64_t FinetuneConfig::steps(int64_t per_epoch) const {
  if (max_steps > 0) return max_steps;
  return static_cast<int64_t>(std::ceil(num_train_epochs * static_cast<double>(per_epoch)));
}

FinetuneConfig read_finetune_config(const nlohmann::json& json) {
  FinetuneConfig config;
  read_config(json, [&](ConfigVisitor& v) { config.visit(v); });
  if (json.contains("adapter")) config.adapter_given = json["adapter"];
  return config;
}

}  // namespace llmtool
