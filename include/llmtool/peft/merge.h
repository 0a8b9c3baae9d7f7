#pragma once
// Models with their adapters: to run beside, or folded into the weights.

#include <filesystem>
#include <memory>
#include <utility>
#include <vector>

#include "llmtool/model/base_source.h"
#include "llmtool/peft/adapter.h"

namespace llmtool {

/// An adapter's folder and what its change is multiplied by.
using WeightedAdapters = std::vector<std::pair<std::filesystem::path, double>>;

/// Whether a head that is the embedding has to become one of its own for such an adapter.
bool unties_head(const AdapterConfig& config, const ModelConfig& model);

/// The base as these adapters want it: with the classification head that one of them brings, or untied, where
/// one changes the head or the embedding alone.
std::shared_ptr<const ModelSource> adapted_source(std::shared_ptr<const ModelSource> base,
                                                  const WeightedAdapters& adapters);

/// A model that runs with adapters beside its weights, which stay where the files have them.
struct AdaptedModel {
  std::vector<std::unique_ptr<Adapter>> adapters;
  std::unique_ptr<Transformer> model;

  AdaptedModel(std::shared_ptr<const ModelSource> base, const WeightedAdapters& folders);
};

/// The base's weights with the adapters in them, a tensor at a time.
class MergedSource : public ModelSource {
 public:
  /// Throws UsageError where an adapter is none that weights can hold.
  MergedSource(std::shared_ptr<const ModelSource> base, const WeightedAdapters& folders);
  const char* format() const override { return base_->format(); }
  EmbeddingSettings embedding() const override { return base_->embedding(); }
  StoredParam find(const Param& p) const override { return base_->find(p); }
  void check_all_used(const ParamStore& params) const override { base_->check_all_used(params); }
  void read(const Param& p, float* values) const override;

 private:
  std::shared_ptr<const ModelSource> base_;
  Transformer skeleton_;  // its memory is not touched but for what adapters bring
  std::vector<std::unique_ptr<Adapter>> adapters_;
  std::vector<double> weights_;
};

}  // namespace llmtool
