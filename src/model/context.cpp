#include "llmtool/model/context.h"

#include <cmath>

#include "llmtool/core/error.h"
#include "model/architecture.h"

namespace llmtool {

namespace {
/// Files whose model runs by another config of the same shapes.
class Reconfigured : public ModelSource {
 public:
  Reconfigured(std::shared_ptr<const ModelSource> base, ModelConfig config)
      : ModelSource(base->path(), std::move(config)), base_(std::move(base)) {}
  const char* format() const override { return base_->format(); }
  StoredParam find(const Param& p) const override { return base_->find(p); }
  void check_all_used(const ParamStore& params) const override { base_->check_all_used(params); }
  EmbeddingSettings embedding() const override { return base_->embedding(); }
  void read(const Param& p, float* values) const override { base_->read(p, values); }

 private:
  std::shared_ptr<const ModelSource> base_;
};

RopeScaling scaling_named(const std::string& name) {
  if (name == "linear") return RopeScaling::linear;
  if (name == "dynamic") return RopeScaling::dynamic;
  if (name == "yarn") return RopeScaling::yarn;
  throw UsageError(cat("rope_scaling: expected none, linear, dynamic or yarn, found ", name));
}

/// The config with that scaling.
ModelConfig scaled(ModelConfig c, const ContextSettings& settings) {
  const int64_t trained = c.context();
  const RopeScaling scaling = scaling_named(settings.scaling);
  if (architecture(c).positions != Positions::rope) {
    throw UsageError(cat("rope_scaling: a ", c.model_type, " model has no rotary positions to scale"));
  }
  if (c.rope_scaling.scaling != RopeScaling::none) {
    throw UsageError(
        cat("rope_scaling: the model has a scaling of its own, which reaches ", trained, " positions"));
  }
  RopeSettings& s = c.rope_scaling;
  s.scaling = scaling;
  s.original_positions = static_cast<double>(trained);
  s.factor = settings.factor > 0    ? settings.factor
             : settings.context > 0 ? static_cast<double>(settings.context) / s.original_positions
                                    : 0;
  if (settings.factor == 0 && settings.context < trained) {
    const std::string found = settings.context > 0 ? cat("a context of ", settings.context) : "neither";
    throw UsageError(cat("rope_scaling: expected --context with at least the trained ", trained,
                         " positions, or a --rope-factor, found ", found));
  }
  if (!(s.factor >= 1)) throw UsageError(cat("rope_factor: expected at least 1, found ", s.factor));
  if (scaling == RopeScaling::yarn) s.attention_factor = 0.1 * std::log(s.factor) + 1;
  // Of dynamic scaling, max_position_embeddings stays the trained context: see context().
  if (scaling != RopeScaling::dynamic)
    c.max_position_embeddings = static_cast<int64_t>(s.factor * s.original_positions);
  return c;
}
}  // namespace

std::shared_ptr<const ModelSource> with_context(std::shared_ptr<const ModelSource> source,
                                                const ContextSettings& settings) {
  const bool scales = settings.scaling != "none";
  ModelConfig c = source->config();
  const int64_t trained = c.context();
  if (!scales && settings.factor != 0)
    throw UsageError("rope_factor: means nothing without --rope-scaling linear, dynamic or yarn");
  if (scales) c = scaled(c, settings);
  if (settings.context > c.context()) {
    throw UsageError(
        cat("context: expected at most ", c.context(), " positions, ",
            scales ? "as far as the scaling reaches" : "the trained context", ", found ", settings.context,
            scales ? "; give a greater --rope-factor"
            : architecture(c).positions == Positions::rope && c.rope_scaling.scaling == RopeScaling::none
                ? "; --rope-scaling yarn (or linear, dynamic) reaches beyond"
                : ""));
  }
  if (!scales || c.context() == trained) return source;
  return std::make_shared<Reconfigured>(std::move(source), std::move(c));
}

}  // namespace llmtool
