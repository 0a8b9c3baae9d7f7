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

void visit_training(ConfigVisitor& v, TrainingConfig& c, std::string& init_from) {
  v.integer("max_steps", c.schedule.max_steps, {1}, "optimizer steps");
  v.integer("batch_size", c.batch_size, {1, 1 << 20}, "sequences computed at a time");
  v.integer("sequence_length", c.sequence_length, {1, 1 << 24}, "tokens per sequence");
  v.integer("gradient_accumulation_steps", c.gradient_accumulation_steps, {1, 1 << 20}, "batches per step");
  v.number("learning_rate", c.schedule.learning_rate, {0, 1e3}, "highest rate");
  c.visit_course(v);
  v.string("init_from", init_from, "model folder whose weights are the start");
}
}  // namespace

void PretrainConfig::visit(ConfigVisitor& v) {
  v.section("model", "architecture, with the family's Hugging Face keys",
            [&](ConfigVisitor& s) { model.visit(s); });
  v.section("tokenizer", "what turns text into ids",
            [&](ConfigVisitor& s) { visit_tokenizer(s, tokenizer); });
  v.section("data", "what is learnt", [&](ConfigVisitor& s) { visit_data(s, data); });
  v.section("training", "how it is learnt",
            [&](ConfigVisitor& s) { visit_training(s, training, init_from); });
  v.section("evaluation", "what is measured", [&](ConfigVisitor& s) { evaluation.visit(s, "max_windows"); });
  v.section("sample", "texts written at evaluations", [&](ConfigVisitor& s) { sample.visit(s); });
}

void PretrainConfig::check() const {
  check_course(model.context());
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
