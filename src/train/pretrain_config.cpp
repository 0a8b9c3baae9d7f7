#include "llmtool/train/pretrain_config.h"

#include <nlohmann/json.hpp>

#include "llmtool/core/error.h"

namespace llmtool {

namespace {
void visit_tokenizer(ConfigVisitor& v, TokenizerConfig& c) {
  v.string("path", c.path, "tokenizer folder or file; empty: train one on the training text");
  v.choice("model_type", c.training.model_type, {"unigram", "bpe", "word", "char", "byte-bpe"},
           "of the one to train");
  v.integer("vocab_size", c.training.vocab_size, {0, 1 << 22}, "0: every character (char only)");
  v.number("character_coverage", c.training.character_coverage, {0, 1},
           "share of characters that get a piece");
  v.boolean("byte_fallback", c.training.byte_fallback, "characters without a piece become bytes");
  v.strings("user_symbols", c.training.user_symbols, "texts that always are one piece");
  v.integer("min_frequency", c.training.min_frequency, {0},
            "times that a pair must stand in the text (byte-bpe)");
  v.integer("max_lines", c.training.max_lines, {0}, "lines sampled from a larger corpus; 0: all");
}

void visit_data(ConfigVisitor& v, DataConfig& c) {
  visit_sources(v, c.train, "file, folder or glob: text or token shards (.bin)");
  v.strings("validation", c.validation, "validation text or shards; empty: held out from the training data");
  v.number("validation_fraction", c.validation_fraction, {0, 0.9}, "held out by document");
  v.string("field", c.field, "field of the rows of .jsonl files");
  v.choice("input_format", c.input_format, {"auto", "text", "jsonl"}, "auto: by the file's name");
  v.boolean("strict", c.strict, "invalid UTF-8 and NUL are errors");
}

void visit_training(ConfigVisitor& v, TrainingConfig& c) {
  v.integer("max_steps", c.schedule.max_steps, {1}, "optimizer steps");
  v.integer("batch_size", c.batch_size, {1, 1 << 20}, "sequences computed at a time");
  v.integer("sequence_length", c.sequence_length, {1, 1 << 24}, "tokens per sequence");
  v.integer("gradient_accumulation_steps", c.gradient_accumulation_steps, {1, 1 << 20}, "batches per step");
  v.number("learning_rate", c.schedule.learning_rate, {0, 1e3}, "highest rate");
  v.number("min_learning_rate", c.schedule.min_learning_rate, {0, 1e3}, "rate at the end");
  v.integer("warmup_steps", c.schedule.warmup_steps, {0}, "steps of rising rate");
  v.choice("lr_scheduler_type", c.schedule.type, {"cosine", "linear", "constant", "warmup_stable_decay"},
           "rate after warm-up");
  v.integer("decay_steps", c.schedule.decay_steps, {0}, "last steps, of warmup_stable_decay");
  v.number("weight_decay", c.adam.weight_decay, {0, 1e3}, "of matrices, not of norms and biases");
  v.number("adam_beta1", c.adam.beta1, {0, 0.999999}, "first moment");
  v.number("adam_beta2", c.adam.beta2, {0, 0.9999999}, "second moment");
  v.number("adam_epsilon", c.adam.eps, {0, 1}, "added to the root");
  v.number("max_grad_norm", c.max_grad_norm, {0, 1e9}, "longer gradients are shortened to it; 0: never");
  v.number("z_loss", c.z_loss, {0, 1}, "weight of log(Z)^2 in the loss");
  v.boolean("gradient_checkpointing", c.gradient_checkpointing,
            "recompute layers in backward: less memory, slower");
  v.integer("save_steps", c.save_steps, {0}, "steps between checkpoints; 0: only at the end");
  v.integer("save_total_limit", c.save_total_limit, {2, 1 << 20}, "checkpoints that are kept");
  v.choice("save_dtype", c.save_dtype, {"float32", "bfloat16"}, "of the weights in model/");
  v.integer("seed", c.seed, {0}, "of weights, order, split and dropout");
  v.string("init_from", c.init_from, "model folder whose weights are the start");
}

void visit_evaluation(ConfigVisitor& v, EvaluationConfig& c) {
  v.integer("steps", c.steps, {0}, "between evaluations; 0: only at the end");
  v.integer("max_windows", c.max_windows, {0}, "sequences of the validation split; 0: all");
  v.integer("early_stopping_patience", c.early_stopping_patience, {0},
            "evaluations without a better loss; 0: never");
  v.number("early_stopping_threshold", c.early_stopping_threshold, {0, 1e3}, "by how much better");
}

void visit_sample(ConfigVisitor& v, SampleConfig& c) {
  v.strings("prompts", c.prompts, "continued at every evaluation; \"\": from nothing");
  v.integer("max_new_tokens", c.max_new_tokens, {1, 1 << 20}, "tokens of a sample");
  v.number("temperature", c.temperature, {0, 100}, "0: the likeliest token");
  v.integer("top_k", c.top_k, {0, 1 << 24}, "0: all");
  v.number("top_p", c.top_p, {0, 1}, "1: all");
}
}  // namespace

void PretrainConfig::visit(ConfigVisitor& v) {
  v.section("model", "architecture, with the family's Hugging Face keys",
            [&](ConfigVisitor& s) { model.visit(s); });
  v.section("tokenizer", "what turns text into ids",
            [&](ConfigVisitor& s) { visit_tokenizer(s, tokenizer); });
  v.section("data", "what is learnt", [&](ConfigVisitor& s) { visit_data(s, data); });
  v.section("training", "how it is learnt", [&](ConfigVisitor& s) { visit_training(s, training); });
  v.section("evaluation", "what is measured", [&](ConfigVisitor& s) { visit_evaluation(s, evaluation); });
  v.section("sample", "texts written at evaluations", [&](ConfigVisitor& s) { visit_sample(s, sample); });
}

void PretrainConfig::check() const {
  const Schedule& s = training.schedule;
  const auto at_most = [](const char* key, auto value, const char* other, auto limit) {
    if (value > limit)
      throw UsageError(cat(key, ": expected at most ", other, " = ", limit, ", found ", value));
  };
  at_most("training.warmup_steps", s.warmup_steps, "training.max_steps", s.max_steps);
  at_most("training.decay_steps", s.decay_steps, "training.max_steps", s.max_steps);
  if (s.type != "constant") {
    at_most("training.min_learning_rate", s.min_learning_rate, "training.learning_rate", s.learning_rate);
  }
  at_most("training.sequence_length", training.sequence_length, "the model's context", model.context());
  check_sources(data.train);
}

PretrainConfig read_pretrain_config(const nlohmann::json& json) {
  PretrainConfig config;
  // The family decides the model's other defaults; one that is unknown is named with its key below.
  const auto pointer = nlohmann::json::json_pointer("/model/model_type");
  const nlohmann::json type = json.contains(pointer) ? json.at(pointer) : nlohmann::json();
  for (const std::string& family : ModelConfig::families()) {
    if (type == family) config.model = ModelConfig::of_family(family);
  }
  read_config(json, [&](ConfigVisitor& v) { config.visit(v); });
  return config;
}

}  // namespace llmtool
