#include "train/init_adapter.h"

#include <algorithm>
#include <array>

#include "llmtool/core/error.h"
#include "llmtool/io/json.h"
#include "llmtool/model/transformer.h"
#include "peft/targets.h"

namespace llmtool {

namespace {
namespace fs = std::filesystem;

/// Keys that say nothing of what the adapter computes.
constexpr std::array kSilent = {"task_type", "base_model_name_or_path", "inference_mode", "fan_in_fan_out",
                                "tokenizer_name_or_path"};

nlohmann::json values(AdapterConfig config) {
  return nlohmann::json::parse(write_config([&](ConfigVisitor& v) { config.visit(v); }).dump());
}

/// Lists are of names, or of layers, in any order.
nlohmann::json sorted(nlohmann::json value) {
  if (value.is_array()) std::sort(value.begin(), value.end());
  return value;
}

/// Folders name one by one what all-linear stands for.
bool same_modules(const AdapterConfig& a, const AdapterConfig& b, const ModelConfig& model) {
  const Targets first(a, model), second(b, model);
  Transformer skeleton(model);  // its memory is not touched
  const auto sites = skeleton.linear_sites();
  return std::all_of(sites.begin(), sites.end(), [&](const LinearSite& site) {
    return first.contains(site.name, site.is_output) == second.contains(site.name, site.is_output);
  });
}
}  // namespace

std::optional<AdapterConfig> adapter_of_run(const fs::path& run) {
  const fs::path file = run / "run.json";
  if (!fs::exists(file)) return {};
  const nlohmann::json json = read_json(file);
  const auto section = nlohmann::json::json_pointer("/config/adapter");
  if (!json.contains(section)) return {};
  AdapterConfig config;
  read_config(json[section], [&](ConfigVisitor& v) { config.visit(v); });
  return config.peft_type.empty() ? std::nullopt : std::optional(config);
}

void check_given(const nlohmann::json& given, const AdapterConfig& from, const ModelConfig& model,
                 const std::string& place) {
  const nlohmann::json there = values(from);
  std::string differences;
  for (const auto& [key, written] : given.items()) {
    const bool silent = std::find(kSilent.begin(), kSilent.end(), key) != kSilent.end();
    if (silent || written.is_null()) continue;
    AdapterConfig other = from;
    read_config({{key, written}}, [&](ConfigVisitor& v) { other.visit(v); });
    const nlohmann::json asked = values(other)[key];
    if (sorted(asked) == sorted(there[key])) continue;
    const bool all = asked == "all-linear" || asked == nlohmann::json::array({"all-linear"});
    if (key == "target_modules" && all && same_modules(from, other, model)) continue;
    differences += cat("\n  adapter.", key, ": ", there[key].dump(), " there, given ", asked.dump());
  }
  if (!differences.empty())
    throw UsageError(
        cat("model.init_adapter: ", place,
            ": has other settings than those given, which must be its own or left out:", differences));
}

}  // namespace llmtool
