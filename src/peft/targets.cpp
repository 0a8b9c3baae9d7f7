#include "peft/targets.h"

#include <algorithm>
#include <cmath>

#include "llmtool/core/error.h"

namespace llmtool {

namespace {
struct UsualTargets {
  const char* model_type;
  std::vector<std::string> low_rank, scaled, feedforward;
};

/// PEFT's, and for families that it has none for the queries' and values' projections.
const std::vector<UsualTargets>& usual_targets() {
  static const std::vector<std::string> qv = {"q_proj", "v_proj"}, fused = {"query_key_value"};
  static const std::vector<UsualTargets> table = {
      {"llama", qv, {"k_proj", "v_proj", "down_proj"}, {"down_proj"}},
      {"mistral", qv, {"k_proj", "v_proj", "down_proj"}, {"down_proj"}},
      {"mixtral", qv, {"k_proj", "v_proj"}, {}},
      {"qwen2", qv, {"q_proj", "v_proj", "down_proj"}, {"down_proj"}},
      {"qwen2_moe", qv, {"k_proj", "v_proj"}, {}},
      {"qwen3", qv, {"q_proj", "v_proj", "down_proj"}, {"down_proj"}},
      {"qwen3_moe", qv, {"k_proj", "v_proj"}, {}},
      {"gemma", qv, {"q_proj", "v_proj", "down_proj"}, {"down_proj"}},
      {"gemma2", qv, {"q_proj", "v_proj", "down_proj"}, {"down_proj"}},
      {"gemma3_text", qv, {"q_proj", "v_proj", "down_proj"}, {"down_proj"}},
      {"phi3", {"qkv_proj"}, {"qkv_proj", "down_proj"}, {"down_proj"}},
      {"falcon", fused, {"query_key_value", "dense_4h_to_h"}, {"dense_4h_to_h"}},
      {"bloom", fused, {"query_key_value", "mlp.dense_4h_to_h"}, {"mlp.dense_4h_to_h"}},
      {"gpt2", {"c_attn"}, {"c_attn", "mlp.c_proj"}, {"mlp.c_proj"}},
      {"gpt_neox", fused, {"query_key_value", "dense_4h_to_h"}, {"dense_4h_to_h"}},
      {"olmo2", qv, {"k_proj", "v_proj", "down_proj"}, {"down_proj"}},
      {"stablelm", qv, {"k_proj", "v_proj", "down_proj"}, {"down_proj"}},
      {"bert", {"query", "value"}, {"key", "value", "output.dense"}, {"output.dense"}}};
  return table;
}

void replace(std::string& text, std::string_view from, std::string_view to) {
  if (const size_t at = text.find(from); at != std::string::npos) text.replace(at, from.size(), to);
}

Regex whole(const std::string& pattern, const std::string& origin) {
  if (pattern.size() > 4096) throw UsageError(cat(origin, ": expected an expression of at most 4096 bytes"));
  try {
    return Regex("\\A(?:" + pattern + ")\\z", origin, Regex::Syntax::pcre);
  } catch (const Error& e) {
    throw UsageError(e.what());
  }
}

Regex end_of_name(const std::string& pattern, const std::string& origin) {
  return whole("(?:.*\\.)?(?:" + pattern + ")", origin);
}

bool found(const Regex& regex, const std::string& text) {
  bool any = false;
  regex.for_each(text, [&](size_t, size_t) { any = true; });
  return any;
}
}  // namespace

std::string last_part(const std::string& name) { return name.substr(name.rfind('.') + 1); }

bool ends_with_name(const std::string& name, const std::string& end) {
  return name == end || name.ends_with("." + end);
}

bool is_all_linear(const NameList& names) {
  constexpr const char* kWord = "all-linear";
  return names.expression == kWord || (names.names.size() == 1 && names.names[0] == kWord);
}

void check_expressions(const AdapterConfig& config) {
  for (const auto& [key, names] : {std::pair{"target_modules", &config.target_modules},
                                   {"exclude_modules", &config.exclude_modules},
                                   {"feedforward_modules", &config.feedforward_modules}}) {
    if (names->expression) whole(*names->expression, cat("adapter.", key));
  }
  if (config.peft_type == "ADALORA") return;  // whose patterns are names
  for (const auto& [key, patterns] :
       {std::pair{"rank_pattern", &config.rank_pattern}, {"alpha_pattern", &config.alpha_pattern}}) {
    for (const auto& [name, value] : patterns->items()) end_of_name(name, cat("adapter.", key));
  }
}

std::string peft_name(const ModelConfig& model, const std::string& module) {
  std::string name = module;
  if (model.model_type == "gpt_neox" && name.starts_with("embed_out")) replace(name, "embed_out", "lm_head");
  if (model.model_type == "mixtral") replace(name, ".block_sparse_moe.", ".mlp.");
  return name;
}

bool is_linear_layer(const std::string& name) {
  return name.find(".experts.") == std::string::npos && !name.ends_with(".mlp.gate");
}

bool fits_pattern(const std::string& pattern, const std::string& module) {
  return found(end_of_name(pattern, "adapter: " + pattern), module);
}

bool Targets::Names::matches(const std::string& name) const {
  if (expression) return found(*expression, name);
  return std::any_of(list.begin(), list.end(),
                     [&](const std::string& end) { return ends_with_name(name, end); });
}

Targets::Names Targets::compile(const NameList& names, const char* key) {
  Names compiled;
  compiled.list = names.names;
  if (names.expression) compiled.expression = whole(*names.expression, cat("adapter.", key));
  return compiled;
}

Targets::Targets(const AdapterConfig& config, const ModelConfig& model) : config_(config), model_(model) {
  NameList targets = config.target_modules, feedforward = config.feedforward_modules;
  if (config.is_lora() || config.peft_type == "IA3") {
    all_linear_ = is_all_linear(targets);
    const auto& table = usual_targets();
    const auto row = std::find_if(table.begin(), table.end(),
                                  [&](const UsualTargets& t) { return model.model_type == t.model_type; });
    const bool usual = targets.empty() && config.target_parameters.empty();
    if (usual && row == table.end())
      throw UsageError(
          cat("adapter.target_modules: expected names, as ", model.model_type, " has no usual ones"));
    if (usual && config.peft_type == "IA3") {
      targets.names = row->scaled;
      if (feedforward.empty()) feedforward.names = row->feedforward;
    } else if (usual) {
      targets.names = row->low_rank;
    }
    if (!all_linear_) targets_ = compile(targets, "target_modules");
  }
  parameters_.list = config.target_parameters;
  excluded_ = compile(config.exclude_modules, "exclude_modules");
  feedforward_ = compile(feedforward, "feedforward_modules");
  if (config.task_type == "SEQ_CLS" && config.peft_type != "ADAPTION_PROMPT") {
    for (const char* head : {"classifier", "score"}) {
      const auto& list = config_.modules_to_save;
      if (std::find(list.begin(), list.end(), head) == list.end()) config_.modules_to_save.emplace_back(head);
    }
  }
}

/// The number of a layer: the first that has two names before it, or the one behind layers_pattern.
bool Targets::in_layers(const std::string& module) const {
  if (config_.layers_to_transform.empty()) return true;
  std::vector<std::string> parts(1);
  for (const char c : module) {
    if (c == '.') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  const auto pattern = [&](const std::string& name) {
    if (config_.layers_pattern.expression) return name == *config_.layers_pattern.expression;
    const auto& names = config_.layers_pattern.names;
    return names.empty() || std::find(names.begin(), names.end(), name) != names.end();
  };
  for (size_t i = 1; i < parts.size(); ++i) {
    const bool number = !parts[i].empty() && parts[i].size() < 10 &&
                        parts[i].find_first_not_of("0123456789") == std::string::npos;
    if (!number || !pattern(parts[i - 1]) || (config_.layers_pattern.empty() && i < 2)) continue;
    const auto& layers = config_.layers_to_transform;
    return std::find(layers.begin(), layers.end(), std::stoll(parts[i])) != layers.end();
  }
  return false;
}

bool Targets::contains(const std::string& module, bool is_output) const {
  if (!config_.is_lora() && config_.peft_type != "IA3") return false;
  const std::string name = peft_name(model_, module);
  if (!is_linear_layer(name) || is_saved(module) || excluded_.matches(name) || !in_layers(name)) return false;
  return all_linear_ ? !is_output : targets_.matches(name);
}

bool Targets::is_feedforward(const std::string& module) const {
  if (feedforward_.expression) return feedforward_.matches(module);
  return std::any_of(feedforward_.list.begin(), feedforward_.list.end(),
                     [&](const std::string& end) { return module.ends_with(end); });
}

bool Targets::is_saved(const std::string& module) const {
  const std::string name = peft_name(model_, module);
  // A module that ends so, or one within it.
  return std::any_of(config_.modules_to_save.begin(), config_.modules_to_save.end(),
                     [&](const std::string& end) {
                       return name.ends_with(end) || name.starts_with(end + ".") ||
                              name.find("." + end + ".") != std::string::npos;
                     });
}

bool Targets::trains_bias(const std::string& parameter) const {
  constexpr std::string_view kBias = ".bias";
  if (config_.bias == "none" || !config_.is_lora() || !parameter.ends_with(kBias)) return false;
  return config_.bias == "all" || contains(parameter.substr(0, parameter.size() - kBias.size()), false);
}

void Targets::check_all_used(const std::vector<std::string>& modules,
                             const std::vector<std::string>& changed) const {
  for (const std::string& name : excluded_.list) {
    if (std::none_of(modules.begin(), modules.end(),
                     [&](const std::string& module) { return ends_with_name(module, name); }))
      throw UsageError(cat("adapter.exclude_modules: ", name, ": no module of this model ends so"));
  }
  if (config_.peft_type != "LORA") return;
  for (const auto& [key, patterns] :
       {std::pair{"rank_pattern", &config_.rank_pattern}, {"alpha_pattern", &config_.alpha_pattern}}) {
    for (const auto& [pattern, value] : patterns->items()) {
      const Regex regex = end_of_name(pattern, cat("adapter.", key));
      if (std::none_of(changed.begin(), changed.end(),
                       [&](const std::string& module) { return found(regex, module); }))
        throw UsageError(cat("adapter.", key, ": ", pattern, ": fits no module that the adapter changes, as ",
                             changed.front()));
    }
  }
}

std::optional<double> Targets::in_pattern(const nlohmann::json& pattern, const std::string& module) const {
  for (const auto& [key, value] : pattern.items()) {
    const auto it = patterns_.try_emplace(key, end_of_name(key, cat("adapter: ", key))).first;
    if (found(it->second, peft_name(model_, module))) return value.get<double>();
  }
  return {};
}

int64_t Targets::rank(const std::string& module) const {
  if (config_.peft_type == "ADALORA") return config_.init_r;
  return static_cast<int64_t>(
      in_pattern(config_.rank_pattern, module).value_or(static_cast<double>(config_.r)));
}

double Targets::scale(const std::string& module) const {
  const auto R = static_cast<double>(rank(module));
  if (config_.peft_type == "ADALORA") return (config_.lora_alpha > 0 ? config_.lora_alpha : R) / (R + 1e-5);
  const double alpha = in_pattern(config_.alpha_pattern, module).value_or(config_.lora_alpha);
  return alpha / (config_.use_rslora ? std::sqrt(R) : R);
}

}  // namespace llmtool
