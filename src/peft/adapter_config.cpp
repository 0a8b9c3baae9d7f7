#include "llmtool/peft/adapter_config.h"

#include <cmath>

#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/io/json.h"
#include "llmtool/model/transformer.h"
#include "peft/old_experts.h"
#include "peft/targets.h"

namespace llmtool {

namespace {
namespace fs = std::filesystem;

/// Keys of PEFT's files that say nothing about the arithmetic.
constexpr const char* kSilent[] = {"auto_mapping",        "revision",
                                   "peft_version",        "megatron_core",
                                   "qalora_group_size",   "num_layers",
                                   "token_dim",           "num_attention_heads",
                                   "tokenizer_kwargs",    "num_transformer_submodules",
                                   "runtime_config",      "loftq_config",
                                   "encoder_hidden_size", "encoder_dropout",
                                   "encoder_num_layers",  "encoder_reparameterization_type",
                                   "prefix_projection",   "init_weights"};

/// null, false, {} and [] are what PEFT writes for settings that are not used.
bool is_unset(const nlohmann::json& value) {
  return value.is_null() || value == false || ((value.is_object() || value.is_array()) && value.empty());
}

constexpr double kLargestAlpha = 1e9;

bool is_alpha(const nlohmann::json& value) {
  return value.is_number() && std::abs(value.get<double>()) <= kLargestAlpha;
}

void visit_low_rank(ConfigVisitor& v, AdapterConfig& c) {
  v.integer("r", c.r, {1, 1 << 16}, "LoRA: rank");
  v.number("lora_alpha", c.lora_alpha, {-kLargestAlpha, kLargestAlpha},
           "LoRA: the change is scaled by lora_alpha / r (AdaLoRA: by lora_alpha)");
  v.number("lora_dropout", c.lora_dropout, {0, 0.999}, "LoRA: of what goes into A");
  v.raw("rank_pattern", c.rank_pattern,
        "LoRA: rank by the end of a module's name, or an expression of one; of several that fit the first in "
        "order of names");
  v.raw("alpha_pattern", c.alpha_pattern, "LoRA: lora_alpha, likewise");
  v.choice("bias", c.bias, {"none", "all", "lora_only"}, "LoRA: biases that train");
  v.boolean("use_rslora", c.use_rslora, "LoRA: scaled by lora_alpha / sqrt(r)");
  v.boolean("use_dora", c.use_dora, "LoRA: magnitudes of a weight's rows of their own (DoRA)");
  v.boolean_or_string("init_lora_weights", c.init_lora_weights,
                      "LoRA: true (no change at first), false, gaussian, pissa or pissa_niter_N");
  v.integer("init_r", c.init_r, {1, 1 << 16}, "AdaLoRA: rank at first");
  v.integer("target_r", c.target_r, {1, 1 << 16}, "AdaLoRA: mean rank at the end");
  v.integer("tinit", c.tinit, {0}, "AdaLoRA: steps before the budget falls");
  v.integer("tfinal", c.tfinal, {0}, "AdaLoRA: last steps, with the final ranks");
  v.integer("deltaT", c.delta_t, {1}, "AdaLoRA: steps between two allocations");
  v.integer("total_step", c.total_step, {0}, "AdaLoRA: steps of the run; 0: those of this one");
  v.number("beta1", c.beta1, {0, 0.999999}, "AdaLoRA: smoothing of importances");
  v.number("beta2", c.beta2, {0, 0.999999}, "AdaLoRA: smoothing of their uncertainties");
  v.number("orth_reg_weight", c.orth_reg_weight, {0, 1e6},
           "AdaLoRA: weight of the orthogonal regularisation");
}
}  // namespace

void AdapterConfig::visit(ConfigVisitor& v) {
  v.choice("peft_type", peft_type,
           {"", "LORA", "ADALORA", "ADAPTION_PROMPT", "IA3", "PROMPT_TUNING", "PREFIX_TUNING"},
           "the method; empty: none, weights of the model itself train");
  v.choice("task_type", task_type,
           {"CAUSAL_LM", "SEQ_CLS", "FEATURE_EXTRACTION", "TOKEN_CLS", "SEQ_2_SEQ_LM", "QUESTION_ANS", ""},
           "what PEFT wraps the model in");
  v.string("base_model_name_or_path", base_model_name_or_path, "said in the adapter's folder");
  v.boolean("inference_mode", inference_mode, "of PEFT's files; changes nothing");
  v.boolean("fan_in_fan_out", fan_in_fan_out, "of PEFT's files; changes nothing");
  v.names(
      "target_modules", target_modules,
      "ends of modules' names, an expression for whole names, or all-linear; null: the family's usual ones, "
      "none beside target_parameters");
  v.names("exclude_modules", exclude_modules, "likewise, of those that are left alone");
  v.strings(
      "target_parameters", target_parameters,
      "LoRA: ends of names of parameters: mlp.experts.gate_up_proj and mlp.experts.down_proj of a layer's "
      "experts, mlp.gate.weight of their router");
  v.strings("modules_to_save", modules_to_save, "ends of names of modules that train whole");
  v.integers("layers_to_transform", layers_to_transform, {0, 1 << 20}, "LoRA: layers; empty: all");
  v.names("layers_pattern", layers_pattern, "LoRA: the name in front of a layer's number");
  visit_low_rank(v, *this);
  v.boolean("ensure_weight_tying", ensure_weight_tying,
            "a tied head stays tied where modules_to_save names it or the embedding");
  v.integer("adapter_len", adapter_len, {1, 1 << 16}, "Adaption Prompt: tokens");
  v.integer("adapter_layers", adapter_layers, {0, 1 << 20}, "Adaption Prompt: uppermost layers; 0: all");
  v.names("feedforward_modules", feedforward_modules, "IA3: modules whose input is scaled, not their output");
  v.boolean("init_ia3_weights", init_ia3_weights, "IA3: scales are 1 at first");
  v.integer("num_virtual_tokens", num_virtual_tokens, {1, 1 << 20}, "prompt and prefix tuning: tokens");
  v.choice("prompt_tuning_init", prompt_tuning_init, {"RANDOM", "TEXT", "SAMPLE_VOCAB"}, "prompt tuning");
  v.string("prompt_tuning_init_text", prompt_tuning_init_text, "prompt tuning: of TEXT");
  v.string("tokenizer_name_or_path", tokenizer_name_or_path, "of PEFT's files; changes nothing");
}

void AdapterConfig::check() const {
  const auto refuse = [](const std::string& what) { throw UsageError("adapter." + what); };
  if (peft_type.empty()) return;
  if (use_dora && peft_type != "LORA") refuse("use_dora: expected peft_type LORA, found " + peft_type);
  const std::string& init = init_lora_weights;
  const bool niter = init.starts_with("pissa_niter_") && init.size() > 12 && init.size() < 15 &&
                     init.find_first_not_of("0123456789", 12) == std::string::npos;
  if (init != "true" && init != "false" && init != "gaussian" && init != "pissa" && !niter)
    refuse(cat("init_lora_weights: expected true, false, gaussian, pissa or pissa_niter_N, found \"", init,
               "\""));
  if (init.starts_with("pissa") && use_dora) refuse("use_dora: not together with init_lora_weights pissa");
  if (!target_parameters.empty()) {  // what PEFT refuses, too
    const std::string beside = " beside target_parameters, found ";
    if (peft_type != "LORA") refuse(cat("peft_type: expected LORA", beside, peft_type));
    if (lora_dropout != 0) refuse(cat("lora_dropout: expected 0", beside, lora_dropout));
    if (use_dora) refuse(cat("use_dora: expected false", beside, "true"));
    if (init.starts_with("pissa"))
      refuse(cat("init_lora_weights: expected true, false or gaussian", beside, init));
  }
  if (!layers_to_transform.empty() && target_modules.expression && *target_modules.expression != "all-linear")
    refuse("layers_to_transform: expected target_modules as a list of names, found an expression");
  if (!layers_pattern.empty() && layers_to_transform.empty())
    refuse("layers_pattern: expected layers_to_transform beside it");
  if (peft_type == "ADALORA") {
    if (target_r > init_r) refuse(cat("target_r: expected at most init_r = ", init_r, ", found ", target_r));
    if (total_step > 0 && tinit >= total_step - tfinal)
      refuse(cat("tinit: expected less than total_step - tfinal = ", total_step - tfinal, ", found ", tinit));
  }
  if (prompt_tuning_init == "TEXT" && prompt_tuning_init_text.empty() && peft_type == "PROMPT_TUNING")
    refuse("prompt_tuning_init_text: expected a text for prompt_tuning_init TEXT");
  for (const auto& [key, pattern] :
       {std::pair{"rank_pattern", &rank_pattern}, {"alpha_pattern", &alpha_pattern}}) {
    const bool ranks = pattern == &rank_pattern;
    for (const auto& [name, value] : pattern->items()) {
      const bool right = peft_type == "ADALORA" ? value.is_array()
                         : ranks                ? exact_integer(value, 1, 1 << 16).has_value()
                                                : is_alpha(value);
      if (!right)
        refuse(cat(key, ".", name, ": expected ", ranks ? "a rank" : "a number", ", found ", shown(value)));
    }
  }
  check_expressions(*this);
}

bool is_adapter_folder(const fs::path& path) { return fs::exists(path / "adapter_config.json"); }

fs::path find_adapter_folder(const fs::path& path) {
  for (const fs::path& folder : {path, path / "adapter"}) {
    if (is_adapter_folder(folder)) return folder;
  }
  if (const fs::path checkpoint = newest_checkpoint(path, "adapter/adapter_config.json");
      !checkpoint.empty()) {
    info(cat("the run has not ended: using ", checkpoint.string()));
    return checkpoint / "adapter";
  }
  throw UsageError(cat(path.string(),
                       ": expected a PEFT folder (with adapter_config.json) or a run folder (with adapter/)",
                       fs::exists(path) ? "" : ", found nothing there"));
}

AdapterConfig read_adapter_config(const fs::path& folder) {
  const fs::path file = folder / "adapter_config.json";
  if (!fs::exists(file))
    throw UsageError(cat(folder.string(), ": expected a PEFT folder, found no adapter_config.json there"));
  nlohmann::json json = read_json(file);
  if (!json.is_object()) throw Error(cat(file.string(), ": expected an object, found ", shown(json)));
  AdapterConfig config;
  const auto type = json.find("peft_type");
  if (type == json.end()) throw Error(cat(file.string(), ": peft_type: missing"));
  if (json.value("prefix_projection", false) == true && type->is_string() && *type != "PREFIX_TUNING")
    throw Error(cat(file.string(), ": prefix_projection: only prefix tuning has one"));
  for (const char* key : kSilent) json.erase(key);
  for (auto it = json.begin(); it != json.end();) {
    const bool said = it.key() == "inference_mode" || it.key() == "fan_in_fan_out" ||
                      it.key() == "use_rslora" || it.key() == "init_lora_weights" ||
                      it.key() == "init_ia3_weights" || it.key() == "task_type";
    const bool unset = it->is_null() || (!said && is_unset(*it));
    it = unset ? json.erase(it) : std::next(it);
  }
  for (const char* key :
       {"trainable_token_indices", "lora_bias", "layer_replication", "corda_config", "eva_config",
        "alora_invocation_tokens", "megatron_config", "use_qalora", "use_bdlora", "arrow_config",
        "kasa_config", "lora_ga_config", "monteclora_config", "velora_config"}) {
    if (json.contains(key))
      throw Error(cat(file.string(), ": ", key, ": PEFT's setting of that name is not supported"));
  }
  if (const auto layers = json.find("layers_to_transform"); layers != json.end() && layers->is_number())
    *layers = nlohmann::json::array({*layers});
  try {
    read_config(json, [&](ConfigVisitor& v) { config.visit(v); });
    name_old_experts(config, folder);
    config.check();
  } catch (const UsageError& e) {
    throw Error(cat(file.string(), ": ", e.what()));
  }
  return config;
}

}  // namespace llmtool
