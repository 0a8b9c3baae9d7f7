#include "llmtool/peft/merge.h"

#include <algorithm>

#include "llmtool/core/error.h"
#include "llmtool/io/json.h"
#include "llmtool/io/safetensors.h"
#include "llmtool/nn/block.h"
#include "peft/adapter_file.h"
#include "peft/targets.h"

namespace llmtool {

namespace {
namespace fs = std::filesystem;

/// Rows of the classification head that an adapter's file holds.
int64_t head_rows(const fs::path& folder) {
  const fs::path weights = adapter_weights(folder);
  const SafetensorsFile file(weights);
  for (const auto& [name, tensor] : file.tensors()) {
    const bool head = name.ends_with(".score.weight") || name.ends_with(".classifier.weight");
    if (head && tensor.shape.rank == 2) return tensor.shape[0];
  }
  throw Error(cat(weights.string(), ": expected score.weight or classifier.weight for task_type SEQ_CLS"));
}

/// Labels of that head: those that its folder names, else the model's where it has so many.
std::vector<std::string> labels_of(const fs::path& folder, const ModelConfig& model) {
  const auto rows = static_cast<size_t>(head_rows(folder));
  const fs::path file = folder / "labels.json";
  std::vector<std::string> labels;
  if (fs::exists(file)) {
    const nlohmann::json names = read_json(file);
    for (const auto& name : names) {
      if (name.is_string()) labels.push_back(name.get<std::string>());
    }
    if (!names.is_array() || labels.size() != names.size() || labels.size() != rows)
      throw Error(
          cat(file.string(), ": expected a list of the head's ", rows, " labels, found ", shown(names)));
    return labels;
  }
  if (model.head == HeadKind::classification && model.labels.size() == rows) return model.labels;
  for (size_t i = 0; i < rows; ++i) labels.push_back(cat("LABEL_", i));
  return labels;
}

/// What ends an answer of a model with this adapter, where its folder says so.
std::vector<int64_t> stops_of(const fs::path& folder) {
  const fs::path file = folder / "generation_config.json";
  if (!fs::exists(file)) return {};
  const nlohmann::json json = read_json(file);
  return JsonObject(json, file.string()).integers("eos_token_id", 0, INT32_MAX);
}

/// Tokens of the embedding that an adapter's file holds whole, where it has more than the model; else 0.
int64_t vocabulary_of(const fs::path& folder, const ModelConfig& model) {
  const Transformer skeleton(model);  // its memory is not touched
  const SafetensorsFile file(adapter_weights(folder));
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

namespace {
/// What fine-tuning would draw at random (a head, BERT's pooler) has to come with an adapter.
void check_complete(const ModelSource& source, const WeightedAdapters& adapters) {
  const Transformer skeleton(source.config());
  std::vector<std::function<bool(const Param&)>> brings;
  for (const auto& [folder, weight] : adapters)
    brings.push_back(Adapter::base_parameters(read_adapter_config(folder), source.config()));
  for (const Param& p : skeleton.params().list()) {
    const bool brought = std::any_of(brings.begin(), brings.end(), [&](const auto& has) { return has(p); });
    if (!brought && !source.find(p).tensor)
      throw Error(cat(source.path().string(), ": ", p.name,
                      ": not among the file's tensors, and none of the adapters brings it"));
  }
}
}  // namespace

std::shared_ptr<const ModelSource> adapted_source(std::shared_ptr<const ModelSource> base,
                                                  const WeightedAdapters& adapters) {
  BaseChanges changes;
  for (const auto& [folder, weight] : adapters) {
    const AdapterConfig config = read_adapter_config(folder);
    if (config.task_type == "SEQ_CLS") {
      std::vector<std::string> labels = labels_of(folder, base->config());
      const bool known = base->config().head == HeadKind::classification && labels == base->config().labels;
      if (!known) changes.labels = std::move(labels);
    }
    for (const int64_t id : stops_of(folder)) changes.stop_ids.push_back(id);
    changes.vocab_size = std::max(changes.vocab_size, vocabulary_of(folder, base->config()));
    changes.untie = changes.untie || unties_head(config, base->config());
  }
  const auto source = change_base(base, changes);
  if (source != base) check_complete(*source, adapters);
  return source;
}

namespace {
/// What one adapter brings whole, another cannot, nor may it have taken the norms of what was there before.
void check_apart(const std::vector<std::unique_ptr<Adapter>>& adapters) {
  std::set<std::string> all;
  for (const auto& adapter : adapters) {
    for (const std::string& name : adapter->saved()) {
      if (!all.insert(name).second)
        throw UsageError(cat("--adapter: expected adapters that go together, found two that replace ", name));
      for (const auto& other : adapters) {
        const LowRank* const change = other->change_of(name);
        if (change && change->magnitude)
          throw UsageError(cat("--adapter: expected adapters that go together, found one that replaces ",
                               name, " and one with its magnitudes (use_dora)"));
      }
    }
  }
}

/// What the adapter brings whole comes by its scale, from the base's values; all of it where the base has
/// none.
void scale_whole(Transformer& model, const ModelSource& source, const Adapter& adapter, double scale) {
  for (const std::string& name : adapter.saved()) {
    Param& p = *model.params().find(name);
    if (!holds_values(source, p)) continue;
    std::vector<float> values(static_cast<size_t>(p.value.size()));
    source.read(p, values.data());
    adapter.replace(p, values.data(), scale);
    std::copy(values.begin(), values.end(), p.value.f32());
  }
}
}  // namespace

AdaptedModel::AdaptedModel(std::shared_ptr<const ModelSource> base, const WeightedAdapters& folders) {
  const auto source = adapted_source(std::move(base), folders);
  std::vector<std::function<bool(const Param&)>> owned;
  for (const auto& [folder, scale] : folders)
    owned.push_back(Adapter::base_parameters(read_adapter_config(folder), source->config()));
  const auto any = [&](const Param& p) {
    return std::any_of(owned.begin(), owned.end(), [&](const auto& owns) { return owns(p); });
  };
  model = std::make_unique<Transformer>(source, LoadOptions{any});
  for (const auto& [folder, scale] : folders) {
    adapters.push_back(Adapter::load(*model, folder, scale));
    if (scale != 1) scale_whole(*model, *source, *adapters.back(), scale);
  }
  check_apart(adapters);
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
    try {
      adapters_.back()->check_foldable(weight);
    } catch (const UsageError& e) {
      throw UsageError(cat(folder.string(), ": ", e.what()));
    }
  }
  check_apart(adapters_);
}

void MergedSource::read(const Param& p, float* values) const {
  base_->read(p, values);
  const bool held = holds_values(*base_, p);
  for (size_t i = 0; i < adapters_.size(); ++i) adapters_[i]->replace(p, values, held ? weights_[i] : 1);
  for (size_t i = 0; i < adapters_.size(); ++i) adapters_[i]->fold(p, values, weights_[i]);
}

}  // namespace llmtool
