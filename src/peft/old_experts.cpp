#include "peft/old_experts.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/kernels/convert.h"
#include "peft/targets.h"

namespace llmtool {

namespace {
namespace fs = std::filesystem;
constexpr std::string_view kExperts = ".experts.";
constexpr const char *kA = ".lora_A.weight", *kB = ".lora_B.weight";

bool is_old_expert(const std::string& name) {
  const size_t at = name.rfind(kExperts), next = at + kExperts.size();
  return at != std::string::npos && next < name.size() && name[next] >= '0' && name[next] <= '9';
}

/// ...MODULE.w1.lora_A.weight -> w1
std::string layer_of(const std::string& name) {
  if (!name.ends_with(kA)) return "";
  return last_part(name.substr(0, name.size() - std::string_view(kA).size()));
}

/// The layers of old experts, or of all else, that a file has changes of.
std::set<std::string> layers(const SafetensorsFile& file, bool of_experts) {
  std::set<std::string> names;
  for (const auto& [name, tensor] : file.tensors()) {
    if (is_old_expert(name) == of_experts) names.insert(layer_of(name));
  }
  return names;
}

std::string name_of_now(std::string name) {
  constexpr std::string_view kOld = ".block_sparse_moe.";
  const size_t at = name.find(kOld);
  return at == std::string::npos ? name : name.replace(at, kOld.size(), ".mlp.");
}
}  // namespace

AdapterTensors::AdapterTensors(const fs::path& file) : file_(file) {
  std::set<std::string> modules;
  for (const auto& [name, tensor] : file_.tensors()) {
    if (!tensors_.emplace(name_of_now(name), tensor).second)
      throw Error(cat(file.string(), ": ", name, ": stands there twice, also as ", name_of_now(name)));
    if (is_old_expert(name)) modules.insert(name.substr(0, name.rfind(kExperts) + kExperts.size() - 1));
  }
  for (const std::string& module : modules) {
    const auto has = [&](const char* layer) {
      return file_.tensors().contains(cat(module, ".0.", layer, kA));
    };
    const std::string name = name_of_now(module);
    const bool down = has("w2") || has("down_proj");
    const std::string inner = down ? name + ".base_layer" : name;
    if (has("w1")) put_together(module, {"w1", "w3"}, inner, file);
    if (has("gate_proj")) put_together(module, {"gate_proj", "up_proj"}, inner, file);
    if (down) put_together(module, {has("w2") ? "w2" : "down_proj"}, name, file);
  }
}

/// The P parts, of rank R each, become one of rank P R, whose B is 0 where it would join one's rows with
/// another's.
void AdapterTensors::put_together(const std::string& module, const std::vector<std::string>& parts,
                                  const std::string& name, const fs::path& file) {
  for (const auto& [full, type] : file_.unreadable()) {
    if (full.starts_with(module + ".")) throw Error(cat(file.string(), ": ", full, ": is of type ", type));
  }
  int64_t E = 0;
  while (file_.tensors().contains(cat(module, ".", E, ".", parts[0], kA))) ++E;
  std::vector<const Tensor*> found;  // of each expert each part's A and B
  for (int64_t e = 0; e < E; ++e) {
    for (const std::string& part : parts) {
      for (const char* end : {kA, kB}) {
        const std::string full = cat(module, ".", e, ".", part, end);
        const auto at = file_.tensors().find(full);
        if (at == file_.tensors().end()) throw Error(cat(file.string(), ": ", full, ": not there"));
        const Shape& shape = at->second.shape;
        const Shape& expected = found.size() < 2 ? shape : found[found.size() % 2]->shape;
        if (shape.rank != 2)
          throw Error(cat(file.string(), ": ", full, ": expected two dimensions, found ", shape.text()));
        if (!(shape == expected) || (end == kB && shape[1] != found[0]->shape[0]))
          throw Error(cat(file.string(), ": ", full, ": expected ", expected.text(),
                          " as of other experts and a B for each A, found ", shape.text()));
        found.push_back(&at->second);
        tensors_.erase(name_of_now(full));
      }
    }
  }
  const auto P = static_cast<int64_t>(parts.size()), R = found[0]->shape[0], out = found[1]->shape[0];
  RowMatrix& a = made_.emplace_back(E * P * R, found[0]->shape[1]);
  RowMatrix& b = made_.emplace_back(RowMatrix::Zero(P * out, P * R * E));
  for (int64_t i = 0; i < E * P; ++i) {
    const int64_t e = i / P, p = i % P;
    const Tensor &from_a = *found[static_cast<size_t>(2 * i)],
                 &from_b = *found[static_cast<size_t>(2 * i + 1)];
    to_f32(from_a.data, from_a.dtype, a.data() + i * from_a.size(), from_a.size());
    RowMatrix own(out, R);
    to_f32(from_b.data, from_b.dtype, own.data(), own.size());
    for (int64_t r = 0; r < R; ++r) b.col((p * R + r) * E + e).segment(p * out, out) = own.col(r);
  }
  const bool fresh = tensors_.emplace(name + kA, Tensor(a.data(), {a.rows(), a.cols()})).second &&
                     tensors_.emplace(name + kB, Tensor(b.data(), {b.rows(), b.cols()})).second;
  if (!fresh)
    throw Error(cat(file.string(), ": ", name, ": has changes of its own beside those of ", module));
}

namespace {
/// An alpha for all is that of the whole; one for some of the parts it is made of is not.
void check_alphas(const AdapterConfig& config, const SafetensorsFile& file) {
  constexpr std::string_view kPrefix = "base_model.model.";
  for (const auto& [name, tensor] : file.tensors()) {
    if (!is_old_expert(name) || !name.ends_with(kA) || !name.starts_with(kPrefix)) continue;
    const std::string module = name.substr(kPrefix.size(), name.rfind(kA) - kPrefix.size());
    for (const auto& [pattern, alpha] : config.alpha_pattern.items()) {
      if (fits_pattern(pattern, module) || fits_pattern(pattern, name_of_now(module)))
        throw UsageError(cat("alpha_pattern: ", pattern, ": fits ", module,
                             ", an expert as transformers 4 has it, which is read with lora_alpha alone"));
    }
  }
}

/// `parameter` as target_parameters have it: of every layer or, where only some are adapted, of those that
/// have a change of `part`.
std::vector<std::string> parameters_of(const SafetensorsFile& file, bool some, const std::string& parameter,
                                       const std::string& part, bool of_experts) {
  if (!some) return {parameter};
  std::vector<std::string> names;
  for (const auto& [full, tensor] : file.tensors()) {
    const std::string name = name_of_now(full);
    const size_t at = name.rfind(".mlp."), layer = name.rfind('.', at - 1);
    if (at == std::string::npos || layer_of(full) != part || is_old_expert(full) != of_experts) continue;
    const std::string found = cat("layers", name.substr(layer, at - layer), ".", parameter);
    if (std::find(names.begin(), names.end(), found) == names.end()) names.push_back(found);
  }
  return names;
}
}  // namespace

void name_old_experts(AdapterConfig& config, const fs::path& folder) {
  std::vector<std::string>& names = config.target_modules.names;
  const fs::path path = folder / "adapter_model.safetensors";
  if (config.peft_type != "LORA" || config.target_modules.empty() || !fs::exists(path)) return;
  const SafetensorsFile file(path);
  const std::set<std::string> experts = layers(file, true), others = layers(file, false);
  const bool router = others.contains("gate") &&
                      (names.empty() || std::any_of(names.begin(), names.end(),
                                                    [&](const auto& n) { return last_part(n) == "gate"; }));
  if (experts.empty() && !router) return;
  const auto has = [&](const char* one, const char* other) {
    return experts.contains(one) || experts.contains(other);
  };
  const auto add = [&](const char* parameter, std::string part, bool of_experts) {
    const bool some = !config.layers_to_transform.empty();
    for (const std::string& name : parameters_of(file, some, parameter, part, of_experts))
      config.target_parameters.push_back(name);
  };
  check_alphas(config, file);
  if (has("w1", "gate_proj") != has("w3", "up_proj"))
    throw UsageError("target_modules: expected both gate and up of the experts, which are one parameter");
  if (has("w1", "gate_proj")) {  // of twice the rank, scaled as before
    const std::string pattern = ".*\\.gate_up_proj";
    add("mlp.experts.gate_up_proj", experts.contains("w1") ? "w1" : "gate_proj", true);
    config.rank_pattern[pattern] = 2 * config.r;
    config.alpha_pattern[pattern] = config.lora_alpha * (config.use_rslora ? std::sqrt(2.0) : 2.0);
  }
  if (has("w2", "down_proj")) add("mlp.experts.down_proj", experts.contains("w2") ? "w2" : "down_proj", true);
  if (router) add("mlp.gate.weight", "gate", false);
  std::erase_if(names, [&](const std::string& name) {  // what is no linear layer
    return last_part(name) == "gate" ||
           (experts.contains(last_part(name)) && !others.contains(last_part(name)));
  });
  if (config.lora_dropout == 0) return;
  warn(cat(folder.string(), ": lora_dropout is taken for 0, as experts have none"));
  config.lora_dropout = 0;
}

}  // namespace llmtool
