// Model folders: reading and writing weights under the family's names.

#include <map>
#include <nlohmann/json.hpp>

#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/io/files.h"
#include "llmtool/io/safetensors.h"
#include "llmtool/kernels/convert.h"
#include "llmtool/model/model_source.h"
#include "llmtool/model/transformer.h"
#include "model/architecture.h"
#include "model/folder_tensors.h"

namespace llmtool {

namespace {
namespace fs = std::filesystem;
}  // namespace

fs::path newest_checkpoint(const fs::path& run, const char* file) {
  std::map<int64_t, fs::path> steps;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(run / "checkpoints", none)) {
    const std::string name = entry.path().filename().string();
    const bool numbered = name.starts_with("step-") && name.size() < 20 &&
                          name.find_first_not_of("0123456789", 5) == std::string::npos && name.size() > 5;
    if (numbered) steps[std::stoll(name.substr(5))] = entry.path();
  }
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    if (fs::exists(step->second / file) && verify_manifest(step->second).empty()) return step->second;
  }
  return {};
}

fs::path find_model_folder(const fs::path& path) {
  for (const fs::path& folder : {path, path / "model"}) {
    if (fs::exists(folder / "config.json")) return folder;
  }
  if (const fs::path checkpoint = newest_checkpoint(path, "model/config.json"); !checkpoint.empty()) {
    info(cat("the run has not ended: using ", checkpoint.string()));
    return checkpoint / "model";
  }
  if (fs::exists(path / kTrainedWeights) || !newest_checkpoint(path, kTrainedWeights).empty()) {
    throw UsageError(cat(path.string(),
                         ": expected a whole model, found the weights alone that a run trains; finetune "
                         "--resume ends such a run and writes its model"));
  }
  throw UsageError(cat(path.string(),
                       ": expected a model folder (with config.json) or a run folder (with model/)",
                       fs::exists(path) ? "" : ", found nothing there"));
}

void load_weights(Transformer& model, const fs::path& path) { load_weights(model, *ModelSource::open(path)); }

void load_weights(Transformer& model, const ModelSource& source) {
  for (const Param& p : model.params().list()) {
    if (!p.mapped) source.read(p, p.value.f32());  // what lies in a file stays as it is
  }
  source.check_all_used(model.params());
}

Transformer load_transformer(const fs::path& path) {
  const auto source = ModelSource::open(path);
  Transformer model(source->config());
  load_weights(model, *source);
  return model;
}

std::vector<NamedTensor> folder_tensors(const Transformer& model, DType stored,
                                        const std::function<Tensor(const Param&)>& fetch) {
  const WeightNames& names = architecture(model.config()).names;
  std::vector<NamedTensor> tensors;
  for (const Param& p : model.params().list()) {
    NamedTensor tensor{p.name, p.value, stored, p.transpose, p.file_rows};
    if (fetch) tensor.fetch = [&fetch, &p] { return fetch(p); };
    tensors.push_back(tensor);
    if (!*names.head_bias || p.name != cat(names.head, ".bias")) continue;
    tensor.name = names.head_bias;
    tensors.push_back(tensor);
  }
  return tensors;
}

void save_transformer(const Transformer& model, const fs::path& folder, DType stored) {
  fs::create_directories(folder);
  std::vector<float> unpacked;
  const std::function<Tensor(const Param&)> fetch = [&unpacked](const Param& p) {
    if (p.value.dtype == DType::f32) return p.value;
    unpacked.resize(static_cast<size_t>(p.value.size()));
    to_f32(p.value.data, p.value.dtype, unpacked.data(), p.value.size());
    return Tensor(unpacked.data(), p.value.shape);
  };
  write_safetensors(folder / "model.safetensors", folder_tensors(model, stored, fetch), {{"format", "pt"}});
  save_model_config(model.config(), folder, stored);
}

void save_model_config(const ModelConfig& config, const fs::path& folder, DType stored) {
  const char* const dtype = stored == DType::f32 ? "float32" : stored == DType::bf16 ? "bfloat16" : "float16";
  write_file(folder / "config.json", model_config_json(config, dtype).dump(2) + "\n");
  nlohmann::ordered_json generation;
  if (config.bos_token_id) generation["bos_token_id"] = *config.bos_token_id;
  if (config.stop_ids.size() > 1) {
    generation["eos_token_id"] = config.stop_ids;
  } else if (config.eos_token_id) {
    generation["eos_token_id"] = *config.eos_token_id;
  }
  if (config.pad_token_id) generation["pad_token_id"] = *config.pad_token_id;
  write_file(folder / "generation_config.json",
             (generation.empty() ? "{}" : generation.dump(2)) + std::string("\n"));
}

}  // namespace llmtool
