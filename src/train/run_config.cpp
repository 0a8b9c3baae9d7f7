#include "llmtool/train/run_config.h"

#include "llmtool/core/error.h"

namespace llmtool {

void TrainingConfig::visit_course(ConfigVisitor& v) {
  v.number("min_learning_rate", schedule.min_learning_rate, {0, 1e3}, "rate at the end");
  v.integer("warmup_steps", schedule.warmup_steps, {0},
            "steps of rising rate: the n-th, from 1, has n / warmup_steps of it");
  v.choice("lr_scheduler_type", schedule.type, {"cosine", "linear", "constant", "warmup_stable_decay"},
           "rate after warm-up");
  v.integer("decay_steps", schedule.decay_steps, {0}, "last steps, of warmup_stable_decay");
  v.number("weight_decay", adam.weight_decay, {0, 1e3}, "of matrices, not of norms and biases");
  v.number("adam_beta1", adam.beta1, {0, 0.999999}, "first moment");
  v.number("adam_beta2", adam.beta2, {0, 0.9999999}, "second moment");
  v.number("adam_epsilon", adam.eps, {0, 1}, "added to the root");
  v.number("max_grad_norm", max_grad_norm, {0, 1e9}, "longer gradients are shortened to it; 0: never");
  v.number("z_loss", z_loss, {0, 1}, "weight of log(Z)^2 in the loss");
  v.boolean("gradient_checkpointing", gradient_checkpointing,
            "recompute layers in backward: less memory, slower");
  v.integer("save_steps", save_steps, {0}, "steps between checkpoints; 0: only at the end");
  v.integer("save_total_limit", save_total_limit, {2, 1 << 20}, "checkpoints that are kept");
  v.choice("save_dtype", save_dtype, {"float32", "bfloat16"}, "of the weights in model/");
  v.integer("seed", seed, {0}, "of weights, order, split and dropout");
}

void EvaluationConfig::visit(ConfigVisitor& v, const char* limit) {
  v.integer("steps", steps, {0}, "between evaluations; 0: only at the end");
  v.integer(limit, max_sequences, {0}, "sequences of the validation split; 0: all");
  v.integer("early_stopping_patience", early_stopping_patience, {0},
            "evaluations without a better loss; 0: never");
  v.number("early_stopping_threshold", early_stopping_threshold, {0, 1e3}, "by how much better");
}

void SampleConfig::visit(ConfigVisitor& v) {
  v.strings("prompts", prompts, "continued at every evaluation; \"\": from nothing");
  v.integer("max_new_tokens", max_new_tokens, {1, 1 << 20}, "tokens of a sample");
  v.number("temperature", temperature, {0, 100}, "0: the likeliest token");
  v.integer("top_k", top_k, {0, 1 << 24}, "0: all");
  v.number("top_p", top_p, {0, 1}, "1: all");
}

void RunConfig::check_course(int64_t context) const {
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
  at_most("training.sequence_length", training.sequence_length, "the model's context", context);
}

}  // namespace llmtool
