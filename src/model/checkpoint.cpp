// Model folders: reading and writing weights under the family's names.

#include <nlohmann/json.hpp>
#include <set>

#include "llmtool/core/error.h"
#include "llmtool/io/files.h"
#include "llmtool/io/safetensors.h"
#include "llmtool/kernels/convert.h"
#include "llmtool/model/transformer.h"
#include "model/transformer_impl.h"

namespace llmtool {

namespace {
namespace fs = std::filesystem;
using Tensors = std::map<std::string, Tensor>;

/// The tensor under the parameter's name, with or without the family's prefix.
Tensors::const_iterator find_tensor(const Tensors& tensors, const std::string& name,
                                    const std::string& prefix) {
  auto it = tensors.find(name);
  if (it == tensors.end() && name.starts_with(prefix)) it = tensors.find(name.substr(prefix.size()));
  return it;
}

void load_param(const Param& p, const Tensor& stored, const fs::path& folder) {
  Shape expected = p.value.shape;
  if (p.transpose) std::swap(expected.dims[0], expected.dims[1]);
  if (!(stored.shape == expected)) {
    throw Error(cat(folder.string(), ": ", p.name, ": expected ", expected.text(), ", found ",
                    stored.shape.text(), "; is config.json from another model?"));
  }
  if (!p.transpose) return to_f32(stored.data, stored.dtype, p.value.f32(), stored.size());
  const int64_t rows = stored.shape[0], cols = stored.shape[1];
  std::vector<float> line(static_cast<size_t>(cols));
  for (int64_t r = 0; r < rows; ++r) {
    const size_t offset = dtype_bytes(stored.dtype, r * cols);
    to_f32(static_cast<const std::byte*>(stored.data) + offset, stored.dtype, line.data(), cols);
    for (int64_t c = 0; c < cols; ++c) p.value.f32()[c * rows + r] = line[static_cast<size_t>(c)];
  }
}

/// Tensors that files carry though the model does not need them: a tied head's copy, masks, rotary
/// frequencies.
bool ignorable(const std::string& name, bool tied) {
  return (tied && name == "lm_head.weight") || name.ends_with(".attn.bias") ||
         name.ends_with(".attn.masked_bias") || name.ends_with("rotary_emb.inv_freq");
}
}  // namespace

fs::path find_model_folder(const fs::path& path) {
  for (const fs::path& folder : {path, path / "model"}) {
    if (fs::exists(folder / "config.json")) return folder;
  }
  throw UsageError(cat(path.string(),
                       ": expected a model folder (with config.json) or a run folder (with model/)",
                       fs::exists(path) ? "" : ", found nothing there"));
}

void load_weights(Transformer& model, const fs::path& folder) {
  const ModelConfig& config = model.config();
  const SafetensorsFolder files(folder);
  const std::string prefix = architecture(config.model_type).names.prefix;
  std::set<std::string> used;
  for (const Param& p : model.params().list()) {
    const auto it = find_tensor(files.tensors(), p.name, prefix);
    if (it == files.tensors().end())
      throw Error(cat(folder.string(), ": ", p.name, ": not among the file's tensors"));
    load_param(p, it->second, folder);
    release_pages(it->second.data, it->second.bytes());
    used.insert(it->first);
  }
  for (const auto& [name, type] : files.unreadable()) {
    if (!ignorable(name, config.tie_word_embeddings))
      throw Error(cat(folder.string(), ": ", name, ": tensors of type ", type, " cannot be read"));
  }
  for (const auto& [name, tensor] : files.tensors()) {
    if (!used.contains(name) && !ignorable(name, config.tie_word_embeddings)) {
      throw Error(cat(folder.string(), ": ", name, ": a ", config.model_type,
                      " model with this config.json has no such tensor"));
    }
  }
}

Transformer load_transformer(const fs::path& path) {
  const fs::path folder = find_model_folder(path);
  Transformer model(read_model_config(folder));
  load_weights(model, folder);
  return model;
}

void save_transformer(const Transformer& model, const fs::path& folder, DType stored) {
  const ModelConfig& config = model.config();
  fs::create_directories(folder);
  std::vector<NamedTensor> tensors;
  for (const Param& p : model.params().list()) tensors.push_back({p.name, p.value, stored, p.transpose});
  write_safetensors(folder / "model.safetensors", tensors, {{"format", "pt"}});
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
