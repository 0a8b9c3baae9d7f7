#pragma once
// Which of a model's modules an adapter changes.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "llmtool/model/model_config.h"
#include "llmtool/peft/adapter_config.h"
#include "llmtool/text/regex.h"

namespace llmtool {

/// PEFT's name of a module that the model's own files spell otherwise, and back.
std::string peft_name(const ModelConfig& model, const std::string& module);

/// "model.layers.0.mlp.up_proj" -> "up_proj".
std::string last_part(const std::string& name);

/// Whether a name is `end`, or ends in it behind a dot.
bool ends_with_name(const std::string& name, const std::string& end);

/// Whether names are PEFT's word for every linear layer but the head.
bool is_all_linear(const NameList& names);

/// Whether a layer, by PEFT's name, is a linear one in transformers: of a layer with experts these are one
/// parameter of three dimensions, and the router is one of two.
bool is_linear_layer(const std::string& name);

/// Whether a pattern of ranks or alphas (a name's end, or an expression) fits a module.
bool fits_pattern(const std::string& pattern, const std::string& module);

/// Throws UsageError naming the key where an expression of the config cannot be read.
void check_expressions(const AdapterConfig& config);

/// Names as PEFT matches them, modules by the names of their classes in transformers.
class Targets {
 public:
  /// Throws UsageError where the family has no usual targets and none are named.
  Targets(const AdapterConfig& config, const ModelConfig& model);

  /// Whether the linear layer of that name (of the model's files) is changed; `is_output`: it is the head.
  bool contains(const std::string& module, bool is_output) const;
  /// Whether the module, which is no linear layer, is named one by one.
  bool names(const std::string& module) const {
    return !all_linear_ && !is_saved(module) && targets_.matches(module);
  }
  /// Whether a parameter, by PEFT's name, is changed as one (target_parameters).
  bool names_parameter(const std::string& name) const { return parameters_.matches(name); }
  /// Whether exclude_modules names it.
  bool excludes(const std::string& name) const { return excluded_.matches(name); }
  /// Whether layers_to_transform, if there is one, has its layer.
  bool in_layers(const std::string& module) const;
  /// IA3: whether its input is scaled.
  bool is_feedforward(const std::string& module) const;
  /// Whether a module trains whole, or a parameter ("model.norm.weight") of one.
  bool is_saved(const std::string& module) const;
  /// Whether a bias trains beside the adapter.
  bool trains_bias(const std::string& parameter) const;
  int64_t rank(const std::string& module) const;
  /// What the change is multiplied by.
  double scale(const std::string& module) const;
  /// Throws UsageError on a name in exclude_modules that is none of `modules` and on a pattern of ranks or
  /// alphas that fits none of those that are `changed`.
  void check_all_used(const std::vector<std::string>& modules, const std::vector<std::string>& changed) const;

 private:
  struct Names {
    std::optional<Regex> expression;
    std::vector<std::string> list;
    bool matches(const std::string& name) const;
  };
  static Names compile(const NameList& names, const char* key);
  std::optional<double> in_pattern(const nlohmann::json& pattern, const std::string& module) const;

  AdapterConfig config_;
  ModelConfig model_;
  bool all_linear_ = false;
  Names targets_, parameters_, excluded_, feedforward_;
  mutable std::map<std::string, Regex> patterns_;
};

}  // namespace llmtool
