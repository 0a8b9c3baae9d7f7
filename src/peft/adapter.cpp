#include "llmtool/peft/adapter.h"

#include <algorithm>
#include <cmath>

#include "llmtool/core/error.h"
#include "llmtool/nn/block.h"
#include "peft/adalora.h"
#include "peft/targets.h"

namespace llmtool {

namespace {
std::string module_of(const std::string& parameter) {
  const size_t dot = parameter.rfind('.');
  return dot == std::string::npos ? parameter : parameter.substr(0, dot);
}
}  // namespace

std::function<bool(const Param&)> Adapter::base_parameters(const AdapterConfig& config,
                                                           const ModelConfig& model) {
  const auto targets = std::make_shared<Targets>(config, model);
  return [targets](const Param& p) {
    return targets->is_saved(module_of(p.name)) || targets->trains_bias(p.name);
  };
}

Adapter::~Adapter() = default;

Adapter::Adapter(Transformer& model, const AdapterConfig& config, const std::filesystem::path& folder)
    : model_(model), config_(config) {
  config_.check();
  Targets targets(config_, model.config());
  for (const LinearSite& site : model.linear_sites()) {
    if (!targets.contains(site.name, site.is_output)) continue;
    modules_.push_back(peft_name(model.config(), site.name));
    config_.peft_type == "IA3" ? attach_scale(site, targets) : attach_low_rank(site, site.name, targets);
  }
  if (!config_.target_parameters.empty()) attach_parameters(targets, folder.empty());
  const std::string module = module_of(model.embedding().name);
  if (config_.peft_type == "LORA" && targets.names(module)) {
    modules_.push_back(module);
    attach_embedding(targets);
  }
  if (config_.is_lora() || config_.peft_type == "IA3") check_modules(folder.empty());
  if (folder.empty() && !(modules_.empty() && parameters_.empty())) {
    std::vector<std::string> all;
    for (const LinearSite& site : model.linear_sites()) all.push_back(peft_name(model.config(), site.name));
    all.push_back(module);
    std::vector<std::string> changed = modules_;
    changed.insert(changed.end(), parameters_.begin(), parameters_.end());
    targets.check_all_used(all, changed);
  }
  if (config_.peft_type == "ADAPTION_PROMPT") attach_prompts();
  if (config_.has_virtual_tokens()) attach_virtual_tokens();
  for (const Param& p : model.params().list()) {
    if (!targets.is_saved(module_of(p.name)) && !targets.trains_bias(p.name)) continue;
    if (p.name.find(".experts.") != std::string::npos)
      throw UsageError(cat("adapter.modules_to_save: ", p.name,
                           ": experts are one parameter in PEFT's files and not saved one by one; "
                           "target_parameters adapts them"));
    saved_.insert(p.name);
  }
  if (!folder.empty()) check_shapes(folder);
  if (folder.empty()) check_saved();
  store_.allocate();
  if (config_.use_dora) {
    int64_t rows = 0;
    for (const auto& [name, c] : changes_) rows += c.site.linear->parts()[c.site.part].out;
    magnitudes_ = MemoryBlock(static_cast<size_t>(2 * rows) * sizeof(float));
    auto* at = reinterpret_cast<float*>(magnitudes_.data());
    for (const auto& [name, c] : changes_) {
      LowRank& l = change(c);
      l.weight_squares = Tensor(at, {l.out()});
      l.gains = Tensor(at + l.out(), {l.out()});
      at += 2 * l.out();
    }
  }
  if (config_.peft_type != "ADALORA") return;
  std::vector<Triplets> triplets;
  for (const auto& [name, c] : changes_) {
    const LowRank& l = change(c);
    triplets.push_back({peft_name(model.config(), c.site.name), l.a.param, l.e, l.b.param});
  }
  allocator_ = std::make_unique<RankAllocator>(std::move(triplets), config_);
}

/// Each of modules_to_save must be there.
void Adapter::check_saved() const {
  const auto& list = model_.params().list();
  for (const std::string& name : config_.modules_to_save) {
    const bool found = std::any_of(list.begin(), list.end(), [&](const Param& p) {
      const std::string module = cat(".", peft_name(model_.config(), module_of(p.name)), ".");
      return module.ends_with(name + ".") || module.find("." + name + ".") != std::string::npos;
    });
    // PEFT adds both names of a classification head.
    if (!found && name != "classifier" && name != "score")
      throw UsageError(cat("adapter.modules_to_save: ", name, ": no module of this model ends so"));
  }
}

/// `named`: each of target_modules must be there.
void Adapter::check_modules(bool named) const {
  std::set<std::string> unmatched(config_.target_modules.names.begin(), config_.target_modules.names.end());
  unmatched.erase("all-linear");
  const auto match = [&](const std::string& module) {
    std::erase_if(unmatched, [&](const std::string& end) { return ends_with_name(module, end); });
  };
  if (config_.peft_type == "LORA") match(module_of(model_.embedding().name));
  std::string known;
  for (const LinearSite& site : model_.linear_sites()) {
    const std::string name = peft_name(model_.config(), site.name), end = last_part(name);
    if (!is_linear_layer(name)) continue;
    match(name);
    if (("," + known + ",").find(", " + end + ",") == std::string::npos)
      known += (known.empty() ? " " : ", ") + end;
  }
  constexpr const char* kOthers = " (experts and routers are for target_parameters); it has";
  const bool none = modules_.empty() && parameters_.empty();
  if ((named || none) && !unmatched.empty())
    throw UsageError(cat("adapter.target_modules: ", *unmatched.begin(),
                         ": matches no linear layer of this model", kOthers, known));
  if (none)
    throw UsageError(
        cat("adapter: target_modules, exclude_modules and layers_to_transform leave no linear layer of this "
            "model to change",
            kOthers, known));
}

LowRank& Adapter::change(const Changed& c) const {
  return c.site.linear->parts()[c.site.part].changes[c.index];
}

void Adapter::attach_low_rank(const LinearSite& site, const std::string& name, const Targets& targets) {
  Linear::Part& part = site.linear->parts()[site.part];
  const int64_t R = targets.rank(name), in = site.linear->in();
  const std::string prefix = "base_model.model." + peft_name(model_.config(), site.name) + ".";
  const bool ada = config_.peft_type == "ADALORA";
  const char* const end = ada ? "" : ".weight";
  LowRank l;
  l.a = store_.add(cat(prefix, "lora_A", end), {R, in}, true);
  l.b = store_.add(cat(prefix, "lora_B", end), {part.out, R}, true);
  l.b.param->file_rows = part.weight->file_rows;
  if (ada) l.e = store_.add(prefix + "lora_E", {R, 1}, true);
  if (config_.use_dora) {
    l.magnitude = store_.add(prefix + "lora_magnitude_vector", {part.out}, true);
    l.magnitude->file_rows = part.weight->file_rows;
  }
  l.scale = static_cast<float>(targets.scale(name));
  l.dropout = config_.lora_dropout;
  l.stream = changes_.size();
  if (config_.use_dora && !part.changes.empty())
    throw UsageError("adapter.use_dora: a magnitude does not stand beside another adapter");
  if (part.has_magnitude())
    throw UsageError("an adapter does not stand beside one with magnitudes (use_dora)");
  changes_.emplace_back(part.weight->name, Changed{site, part.changes.size()});
  part.changes.push_back(l);
  if (config_.init_lora_weights.starts_with("pissa")) attach_pissa(site, l);
}

void Adapter::attach_embedding(const Targets& targets) {
  if (config_.use_dora) throw UsageError("adapter.use_dora: the embedding has no magnitudes here");
  const Param& table = model_.embedding();
  const std::string module = table.name.substr(0, table.name.rfind('.'));
  const int64_t R = targets.rank(module), V = table.value.shape[0], C = table.value.shape[1];
  const std::string prefix = "base_model.model." + module + ".lora_embedding_";
  EmbeddingChange change{store_.add(prefix + "A", {R, V}, true), store_.add(prefix + "B", {C, R}, true), 0};
  change.scale = static_cast<float>(targets.scale(module));
  embedding_change_ = model_.embedding_changes().size();
  model_.embedding_changes().push_back(change);
}

/// What A and B were at first is taken away again: the weight itself stays as it is.
void Adapter::attach_pissa(const LinearSite& site, const LowRank& change) {
  Linear::Part& part = site.linear->parts()[site.part];
  LowRank first = change;
  Param* const a = store_.add(change.a.param->name + ".first", change.a.shape, false);
  Param* const b = store_.add(change.b.param->name + ".first", change.b.shape, false);
  a->trainable = b->trainable = false;
  b->file_rows = change.b.param->file_rows;
  first.a = a;
  first.b = b;
  first.scale = -change.scale;
  first.dropout = 0;
  part.changes.push_back(first);
  changes_.back().second.first_a = a;
  changes_.back().second.first_b = b;
}

void Adapter::attach_scale(const LinearSite& site, const Targets& targets) {
  Linear::Part& part = site.linear->parts()[site.part];
  const bool feedforward = targets.is_feedforward(peft_name(model_.config(), site.name));
  const int64_t in = site.linear->in();
  const Shape shape = feedforward ? Shape{1, in} : Shape{part.out, 1};
  Param* const p =
      store_.add(cat("base_model.model.", peft_name(model_.config(), site.name), ".ia3_l"), shape, true);
  if (!feedforward) p->file_rows = part.weight->file_rows;
  (feedforward ? part.input_scales : part.output_scales).push_back(p);
  (feedforward ? input_scales_ : output_scales_)[part.weight->name] = p;
}

void Adapter::attach_prompts() {
  const ModelConfig& c = model_.config();
  const int64_t L = c.num_hidden_layers;
  if (!c.generates())
    throw UsageError("adapter.peft_type: ADAPTION_PROMPT is for models that predict next tokens");
  if (config_.adapter_layers > L)
    throw UsageError(cat("adapter.adapter_layers: expected at most ", L, ", found ", config_.adapter_layers));
  if (config_.adapter_layers == 0) config_.adapter_layers = L;
  for (int64_t layer = L - config_.adapter_layers; layer < L; ++layer) {
    Block& block = model_.block(layer);
    // The attention's module is what its output projection stands in.
    const std::string module = module_of(module_of(block.out.parts()[0].weight->name));
    const std::string prefix = "base_model.model." + module + ".adaption_";
    block.prompt.tokens = store_.add(prefix + "prompt", {1, config_.adapter_len, c.hidden_size}, true);
    block.prompt.gate = store_.add(prefix + "gate", {1}, true);
    block.prompt.behind_out = c.model_type == "gpt2";
    block.prompt.repeats_bias =
        (c.model_type == "llama" || c.model_type == "mistral") && block.out.parts()[0].bias != nullptr;
    if (layer == L - 1) modules_ = {module.substr(module.rfind('.') + 1)};
  }
}

void Adapter::attach_virtual_tokens() {
  const ModelConfig& c = model_.config();
  const int64_t P = config_.num_virtual_tokens;
  VirtualTokens& virtual_tokens = model_.virtual_tokens();
  if (virtual_tokens.count > 0) throw UsageError("a model has the virtual tokens of one adapter");
  if (P >= c.context())
    throw UsageError(
        cat("adapter.num_virtual_tokens: expected less than the context, ", c.context(), ", found ", P));
  virtual_tokens.count = P;
  if (config_.peft_type == "PROMPT_TUNING") {
    virtual_tokens.embeddings = store_.add("prompt_embeddings", {P, c.hidden_size}, true);
    return;
  }
  if (!model_.block(0).rules.causal) throw UsageError("adapter.peft_type: PREFIX_TUNING is for decoders");
  const int64_t width = 2 * prefix_heads() * c.head_dim;
  Param* const values = store_.add("prompt_embeddings", {P, c.num_hidden_layers * width}, true);
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer)
    model_.block(layer).prefix = {values, layer * width, prefix_heads() != c.kv_heads()};
}

/// PEFT's prefix is what a cache of transformers holds, and there Falcon's grouped heads lie repeated.
int64_t Adapter::prefix_heads() const {
  const ModelConfig& c = model_.config();
  return c.new_decoder_architecture ? c.num_attention_heads : c.kv_heads();
}

std::vector<Param*> Adapter::trained_base() const {
  std::vector<Param*> list;
  for (Param& p : model_.params().list()) {
    if (saved_.contains(p.name)) list.push_back(&p);
  }
  return list;
}

int64_t Adapter::trained_count() const {
  int64_t n = store_.trainable_count();
  for (const Param* p : trained_base()) n += p->value.size();
  return n;
}

double Adapter::regularize(Exec& exec, double scale) {
  return allocator_ && !exec.dry() ? allocator_->regularize(scale) : 0;
}
void Adapter::after_update(int64_t step, double gradient_scale) {
  if (allocator_) allocator_->update(step, gradient_scale);
}
void Adapter::set_total_steps(int64_t steps) {
  if (!allocator_) return;
  if (config_.total_step == 0) config_.total_step = steps;
  allocator_->set_total_steps(config_.total_step);
  allocator_->check();
}

std::map<std::string, int64_t> Adapter::ranks() const {
  std::map<std::string, int64_t> ranks;
  if (!allocator_) return ranks;
  for (const auto& [name, kept] : allocator_->kept())
    ranks[name] = std::count(kept.begin(), kept.end(), true);
  return ranks;
}

const EmbeddingChange* Adapter::embedding_change() const {
  return embedding_change_ == SIZE_MAX ? nullptr : &model_.embedding_changes()[embedding_change_];
}

const LowRank* Adapter::change_of(const std::string& parameter) const {
  for (const auto& [name, c] : changes_) {
    if (name == parameter) return &change(c);
  }
  return nullptr;
}

}  // namespace llmtool
