// Adapter: changes of routers, and of experts, which transformers holds as two parameters of all of a layer's
// (PEFT's target_parameters).

#include <algorithm>

#include "llmtool/core/error.h"
#include "llmtool/nn/block.h"
#include "llmtool/peft/adapter.h"
#include "peft/targets.h"

namespace llmtool {

namespace {
constexpr std::string_view kWeight = ".weight";

std::string module_of(const Linear& linear) {
  const std::string& name = linear.parts()[0].weight->name;
  return name.substr(0, name.size() - kWeight.size());
}
}  // namespace

void Adapter::attach_parameters(const Targets& targets, bool named) {
  const auto takes = [&](const std::string& parameter) {
    if (!targets.names_parameter(parameter)) return false;
    if (targets.is_saved(parameter))
      throw UsageError(cat("adapter.modules_to_save: ", parameter, " is among target_parameters"));
    parameters_.push_back(parameter);
    return true;
  };
  for (int64_t layer = 0; layer < model_.config().num_hidden_layers; ++layer) {
    Experts& experts = model_.block(layer).experts;
    if (!experts) continue;
    const LinearSite router{module_of(experts.router), &experts.router, 0, false};
    const std::string scores = router.name + std::string(kWeight);
    if (takes(peft_name(model_.config(), scores))) attach_low_rank(router, scores, targets);
    std::string module = peft_name(model_.config(), module_of(experts.experts[0].up));
    module.resize(module.rfind(".experts.") + std::string_view(".experts").size());
    const std::string up = module + ".gate_up_proj", down = module + ".down_proj";
    const bool takes_up = takes(up), takes_down = takes(down);
    // Of two in one module, PEFT has the first within the second.
    if (takes_up)
      attach_experts(experts.experts, &GatedMlp::up, up, module + (takes_down ? ".base_layer" : ""), targets);
    if (takes_down) attach_experts(experts.experts, &GatedMlp::down, down, module, targets);
  }
  check_parameters(targets, named);
}

/// Expert e's A is rows [e R, (e + 1) R) of the one that files hold, its B every E-th column from e on. Parts
/// of one matrix (gate and up) share A.
void Adapter::attach_experts(std::vector<GatedMlp>& experts, Linear GatedMlp::*linear,
                             const std::string& name, const std::string& prefix, const Targets& targets) {
  const Linear& first = experts[0].*linear;
  const auto E = static_cast<int64_t>(experts.size());
  const int64_t R = targets.rank(name), in = first.in(), out = first.out();
  Param* const a = store_.add(cat("base_model.model.", prefix, ".lora_A.weight"), {E * R, in}, true);
  Param* const b = store_.add(cat("base_model.model.", prefix, ".lora_B.weight"), {E, out * R}, true, true);
  b->file_shape = {out, R * E};
  const auto scale = static_cast<float>(targets.scale(name));
  for (int64_t e = 0; e < E; ++e) {
    Linear& own = experts[static_cast<size_t>(e)].*linear;
    for (size_t i = 0; i < own.parts().size(); ++i) {
      Linear::Part& part = own.parts()[i];
      LowRank l;
      l.a = {a, {R, in}, e * R * in};
      l.b = {b, {part.out, R}, (e * out + part.offset) * R};
      l.scale = scale;
      changes_.emplace_back(part.weight->name, Changed{{name, &own, i, false}, part.changes.size()});
      part.changes.push_back(l);
    }
  }
}

void Adapter::check_parameters(const Targets& targets, bool named) const {
  const auto refuse = [](const std::string& name) {
    throw UsageError(cat("adapter.target_parameters: ", name,
                         ": expected parameters of experts, as mlp.experts.gate_up_proj and "
                         "mlp.experts.down_proj, or of routers, mlp.gate.weight, that the model has; linear "
                         "layers are for target_modules"));
  };
  for (const std::string& end : config_.target_parameters) {
    const bool found = std::any_of(parameters_.begin(), parameters_.end(),
                                   [&](const std::string& name) { return ends_with_name(name, end); });
    if (named && !found) refuse(end);
  }
  for (const std::string& name : named ? parameters_ : std::vector<std::string>()) {  // PEFT heeds neither
    const bool excluded = targets.excludes(name) || targets.excludes(name.substr(0, name.rfind('.')));
    if (excluded || !targets.in_layers(name))
      throw UsageError(cat("adapter.", excluded ? "exclude_modules" : "layers_to_transform",
                           ": does nothing to target_parameters, which have ", name,
                           "; name there what is wanted, as layers.1.mlp.experts.down_proj"));
  }
  for (const Param& p : model_.params().list()) {
    const std::string name = peft_name(model_.config(), p.name);
    const bool taken = std::find(parameters_.begin(), parameters_.end(), name) != parameters_.end();
    if (!taken && targets.names_parameter(name)) refuse(name);
  }
}

}  // namespace llmtool
