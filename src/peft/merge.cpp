#include "llmtool/peft/merge.h"

#include <algorithm>

#include "llmtool/core/error.h"
#include "llmtool/io/safetensors.h"
#include "peft/targets.h"

namespace llmtool {

namespace {
namespace fs = std::filesystem;

/// Labels for the rows of the classification head that an adapter's file holds.
std::vector<std::string> labels_of(const fs::path& folder) {
  const SafetensorsFile file(folder / "adapter_model.safetensors");
  std::vector<std::string> labels;
  for (const auto& [name, tensor] : file.tensors()) {
    const bool head = name.ends_with(".score.weight") || name.ends_with(".classifier.weight");
    for (int64_t i = 0; head && i < tensor.shape[0]; ++i) labels.push_back(cat("LABEL_", i));
    if (head) return labels;
  }
  throw Error(cat(folder.string(), ": expected score.weight or classifier.weight for task_type SEQ_CLS"));
}

/// Tokens of the embedding that an adapter's file holds whole, where it has more than the model; else 0.
int64_t vocabulary_of(const fs::path& folder, const ModelConfig& model) {
  const Transformer skeleton(model);  // its memory is not touched
  const SafetensorsFile file(folder / "adapter_model.safetensors");
  const auto at = file.tensors().find("base_model.model." + peft_name(model, skeleton.embedding().name));
  return at != file.tensors().end() && at->second.shape[0] > model.vocab_size ? at->second.shape[0] : 0;
}
}  // namespace

bool unties_head(const AdapterConfig& config, const ModelConfig& model) {
  if (!model.tie_word_embeddings || config.ensure_weight_tying)
    return false;  // PEFT's own way to keep them one
  const Targets targets(config, model);
  Transformer skeleton(model);  // its memory is not touched
  for (const LinearSite& site : skeleton.linear_sites()) {
    if (site.is_output && (targets.is_saved(site.name) || targets.contains(site.name, true))) return true;
  }
  const std::string embedding = skeleton.params().list().front().name;
  const std::string module = embedding.substr(0, embedding.rfind('.'));
  return targets.is_saved(module) || (config.peft_type == "LORA" && targets.names(module));
}

std::shared_ptr<const ModelSource> adapted_source(std::shared_ptr<const ModelSource> base,
                                                  const WeightedAdapters& adapters) {
  BaseChanges changes;
  for (const auto& [folder, weight] : adapters) {
    const AdapterConfig config = read_adapter_config(folder);
    if (config.task_type == "SEQ_CLS" && base->config().head != HeadKind::classification)
      changes.labels = labels_of(folder);
    changes.vocab_size = std::max(changes.vocab_size, vocabulary_of(folder, base->config()));
    changes.untie = changes.untie || unties_head(config, base->config());
  }
  return change_base(std::move(base), changes);
}

AdaptedModel::AdaptedModel(std::shared_ptr<const ModelSource> base, const WeightedAdapters& folders) {
  const auto source = adapted_source(std::move(base), folders);
  std::vector<std::function<bool(const Param&)>> owned;
  for (const auto& [folder, scale] : folders)
    owned.push_back(Adapter::base_parameters(read_adapter_config(folder), source->config()));
  const auto any = [&](const Param& p) {
    return std::any_of(owned.begin(), owned.end(), [&](const auto& owns) { return owns(p); });
  };
  model = std::make_unique<Transformer>(source, LoadOptions{any});
  for (const auto& [folder, scale] : folders) adapters.push_back(Adapter::load(*model, folder, scale));
}

MergedSource::MergedSource(std::shared_ptr<const ModelSource> base, const WeightedAdapters& folders)
    : ModelSource(base->path(), base->config()),
      base_(adapted_source(std::move(base), folders)),
      skeleton_(base_->config()) {
  config_ = base_->config();
  for (const auto& [folder, weight] : folders) {
    // Singular values that a file counts on are those of the weights.
    if (read_adapter_config(folder).init_lora_weights == "pissa") load_weights(skeleton_, *base_);
    adapters_.push_back(Adapter::load(skeleton_, folder));
    weights_.push_back(weight);
    if (!adapters_.back()->foldable())
      throw UsageError(cat(folder.string(), ": ", adapters_.back()->config().peft_type,
                           ": no weight can hold it; `generate --adapter` runs it as it is"));
  }
}

void MergedSource::read(const Param& p, float* values) const {
  base_->read(p, values);
  for (size_t i = 0; i < adapters_.size(); ++i) adapters_[i]->fold(p, values, weights_[i]);
}

}  // namespace llmtool
