#include "train/base_model.h"

#include <algorithm>

#include "llmtool/core/error.h"
#include "llmtool/core/rng.h"
#include "model/architecture.h"

namespace llmtool {

Transformer open_language_model(const ModelSource& base) {
  if (!base.config().generates()) {
    throw UsageError(cat("model.path: ", base.path().string(),
                         ": expected a decoder with a language model's head, found another ",
                         base.config().model_type, " model; data.label_column makes a classifier of it"));
  }
  Transformer model(base.config());
  load_weights(model, base);
  return model;
}

Transformer open_classifier(const ModelSource& base, const std::vector<std::string>& labels, uint64_t seed,
                            bool* fresh) {
  ModelConfig config = base.config();
  const WeightNames& names = architecture(config).names;
  const bool fresh_head = config.head != HeadKind::classification || config.labels != labels;
  const bool fresh_pooler = *names.pooler && !config.pooler;
  *fresh = fresh_head;
  config.head = HeadKind::classification;
  config.labels = labels;
  config.problem_type = "single_label_classification";
  config.pooler = config.pooler || fresh_pooler;
  Transformer model(config);
  uint64_t stream = 0;
  for (const Param& p : model.params().list()) {
    Rng rng = Rng(seed).split(stream++);
    const bool is_new = (fresh_head && p.name.starts_with(cat(names.classifier, "."))) ||
                        (fresh_pooler && p.name.starts_with(cat(names.prefix, names.pooler, ".")));
    if (!is_new) {
      base.read(p, p.value.f32());
      continue;
    }
    for (int64_t i = 0; i < p.value.size(); ++i) {
      p.value.f32()[i] =
          p.value.shape.rank == 1 ? 0 : static_cast<float>(config.initializer_range * rng.normal());
    }
  }
  // A language model's head that the classifier does not have is no sign of another model.
  if (!fresh_head && !fresh_pooler) base.check_all_used(model.params());
  return model;
}

void check_writable(const ModelSource& base, const char* key) {
  if (base.config().rope_scaling.scaling != RopeScaling::factors) return;
  throw UsageError(
      cat(key, ": ", base.path().string(),
          ": rope_freqs.weight: the config.json that training writes has no key for these factors"));
}

}  // namespace llmtool
