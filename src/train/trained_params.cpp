#include "train/trained_params.h"

#include <algorithm>
#include <set>

#include "llmtool/core/error.h"
#include "llmtool/core/rng.h"
#include "llmtool/io/safetensors.h"
#include "llmtool/text/regex.h"
#include "model/architecture.h"

namespace llmtool {

namespace {
bool finds(const Regex& pattern, const std::string& name) {
  bool found = false;
  pattern.for_each(name, [&](size_t, size_t) { found = true; });
  return found;
}

Regex pattern_of(const char* key, const std::string& pattern) {
  try {
    return Regex(pattern, key, Regex::Syntax::pcre);
  } catch (const Error& e) {
    throw UsageError(e.what());
  }
}

[[noreturn]] void complain_nothing(const char* key, const std::string& pattern, const ParamStore& params) {
  throw UsageError(cat(key, ": \"", pattern, "\" is found in no parameter's name; the first is ",
                       params.list().front().name, ", the last ", params.list().back().name));
}

void freeze_below(Transformer& model, int64_t last) {
  const int64_t layers = model.config().num_hidden_layers;
  if (last > layers)
    throw UsageError(
        cat("training.train_last: expected at most the model's ", layers, " blocks, found ", last));
  const auto& names = architecture(model.config()).names;
  const std::string lowest = cat(names.prefix, names.layers, layers - last, ".");
  // The store has them in the order of the model.
  for (Param& p : model.params().list()) {
    if (p.name.starts_with(lowest)) return;
    p.trainable = false;
  }
}
}  // namespace

void freeze_params(Transformer& model, const std::string& pattern, int64_t last) {
  ParamStore& params = model.params();
  if (!pattern.empty()) {
    const Regex regex = pattern_of("training.freeze", pattern);
    bool any = false;
    for (Param& p : params.list()) {
      if (!finds(regex, p.name)) continue;
      p.trainable = false;
      any = true;
    }
    if (!any) complain_nothing("training.freeze", pattern, params);
  }
  if (last > 0) freeze_below(model, last);
  if (params.trainable_count() == 0)
    throw UsageError(cat("training.freeze: \"", pattern, "\" leaves no parameter to learn"));
}

void set_rates(const ParamStores& stores, const std::vector<RateGroup>& groups, double learning_rate) {
  std::set<const Param*> rated;
  for (const RateGroup& group : groups) {
    const Regex regex = pattern_of("training.learning_rates", group.pattern);
    bool any = false;
    for (ParamStore* store : stores) {
      for (Param& p : store->list()) {
        if (!finds(regex, p.name)) continue;
        any = true;
        if (rated.insert(&p).second) p.rate_scale = group.learning_rate / learning_rate;
      }
    }
    if (!any) complain_nothing("training.learning_rates", group.pattern, *stores.back());
  }
}

void save_trained(const ParamStore& params, const std::filesystem::path& file) {
  std::vector<NamedTensor> tensors;
  for (const Param& p : params.list()) {
    if (p.trainable) tensors.push_back({p.name, p.value, DType::f32});
  }
  write_safetensors(file, tensors, {});
}

void load_trained(const ParamStore& params, const std::filesystem::path& file) {
  const SafetensorsFile stored(file);
  size_t expected = 0;
  for (const Param& p : params.list()) {
    if (!p.trainable) continue;
    stored.copy_f32(p.name, p.value);
    ++expected;
  }
  if (stored.tensors().size() != expected) {
    throw Error(cat(file.string(), ": expected the ", expected, " tensors that are learnt, found ",
                    stored.tensors().size(), "; give the run's own training.freeze and training.train_last"));
  }
}

uint64_t frozen_hash(const ParamStore& params, const ModelSource& source) {
  uint64_t hash = 0;
  for (const Param& p : params.list()) {
    if (p.trainable) continue;
    const Tensor stored = source.find(p).tensor;
    if (!stored) continue;  // drawn by the seed, or made of what is hashed
    hash = mix64(hash ^ hash64({static_cast<const std::byte*>(stored.data), stored.bytes()}));
    release_pages(stored.data, stored.bytes());
  }
  return hash;
}

}  // namespace llmtool
