#pragma once
// AdapterConfig: what adapter_config.json of a PEFT folder says.

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "llmtool/io/config.h"

namespace llmtool {

/// PEFT's keys and defaults.
struct AdapterConfig {
  std::string
      peft_type;  // LORA, ADALORA, ADAPTION_PROMPT, IA3, PROMPT_TUNING, PREFIX_TUNING; empty: no adapter
  std::string task_type = "CAUSAL_LM";
  std::string base_model_name_or_path;
  bool inference_mode = false, fan_in_fan_out = false;  // said in files; they change nothing here

  NameList target_modules, exclude_modules;    // of LoRA, AdaLoRA and IA3; empty: the family's usual ones,
                                               // none beside target_parameters
  std::vector<std::string> target_parameters;  // of LoRA: of experts and routers, which are no linear layers
  std::vector<std::string> modules_to_save;    // trained whole
  std::vector<int64_t> layers_to_transform;    // empty: all
  NameList layers_pattern;                     // the name in front of a layer's number
  int64_t r = 8;                               // LoRA
  double lora_alpha = 8, lora_dropout = 0;     // LoRA, AdaLoRA
  nlohmann::json rank_pattern = nlohmann::json::object();   // LoRA: name -> rank; AdaLoRA: name -> ranks kept
  nlohmann::json alpha_pattern = nlohmann::json::object();  // name -> alpha
  std::string bias = "none";                                // none, lora_only, all
  bool use_rslora = false, use_dora = false;
  std::string init_lora_weights = "true";  // true, false, gaussian, pissa, pissa_niter_N
  bool ensure_weight_tying = false;
  // AdaLoRA
  int64_t init_r = 12, target_r = 8, tinit = 0, tfinal = 0, delta_t = 1, total_step = 0;
  double beta1 = 0.85, beta2 = 0.85, orth_reg_weight = 0.5;
  // Adaption Prompt
  int64_t adapter_len = 10, adapter_layers = 0;  // 0 layers: all
  // IA3
  NameList feedforward_modules;
  bool init_ia3_weights = true;
  // Prompt and prefix tuning
  int64_t num_virtual_tokens = 20;
  std::string prompt_tuning_init = "RANDOM", prompt_tuning_init_text, tokenizer_name_or_path;

  bool is_lora() const { return peft_type == "LORA" || peft_type == "ADALORA"; }
  bool has_virtual_tokens() const { return peft_type == "PROMPT_TUNING" || peft_type == "PREFIX_TUNING"; }
  /// The keys of the config's `adapter` section, PEFT's names.
  void visit(ConfigVisitor& v);
  /// Refuses what cannot be together. Throws UsageError naming the key.
  void check() const;
};

/// Reads adapter_config.json. Throws Error naming the file and the key, on settings that change what an
/// adapter does and that are not supported among others.
AdapterConfig read_adapter_config(const std::filesystem::path& folder);
/// Whether a path is an adapter's folder.
bool is_adapter_folder(const std::filesystem::path& path);
/// The PEFT folder that `path` is, or that a run folder or a checkpoint holds. Throws UsageError.
std::filesystem::path find_adapter_folder(const std::filesystem::path& path);

}  // namespace llmtool
