#include "llmtool/model/model_source.h"

#include <cstring>
#include <fstream>
#include <set>

#include "llmtool/core/error.h"
#include "llmtool/io/llama2c.h"
#include "llmtool/io/safetensors.h"
#include "llmtool/kernels/convert.h"
#include "llmtool/model/transformer.h"
#include "model/architecture.h"
#include "model/gguf_names.h"
#include "model/gguf_source.h"

namespace llmtool {

namespace {
namespace fs = std::filesystem;

/// Tensors that files carry though the model does not need them: a tied head's copy, masks, rotary
/// frequencies.
bool ignorable(const std::string& name, const ModelConfig& c) {
  const Architecture& row = architecture(c);
  if (c.tie_word_embeddings && name == cat(row.names.head, ".weight")) return true;
  for (const char* beginning : row.ignored) {
    if (name.starts_with(beginning)) return true;
  }
  for (const char* end :
       {".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias", ".inv_freq"}) {
    if (name.ends_with(end)) return true;
  }
  return false;
}

/// A Hugging Face folder.
class FolderSource : public ModelSource {
 public:
  explicit FolderSource(const fs::path& folder)
      : ModelSource(folder, read_model_config(folder)), files_(checked(folder)) {
    const WeightNames& names = architecture(config_).names;
    if (*names.pooler && !stored_as(cat(names.prefix, names.pooler, ".weight")).empty())
      config_.pooler = true;
    // A head of its own counts, whatever the config says, as in transformers 5.
    if (config_.tie_word_embeddings && has_other_head()) config_.tie_word_embeddings = false;
  }
  const char* format() const override { return "Hugging Face folder"; }
  EmbeddingSettings embedding() const override { return read_embedding_settings(path_); }

  bool has_other_head() const {
    const WeightNames& names = architecture(config_).names;
    const std::string own = cat(names.head, ".weight");
    const std::string shared = stored_as(cat(names.prefix, names.embedding, ".weight"));
    const auto head = files_.tensors().find(own), embedding = files_.tensors().find(shared);
    if (!*names.head || head == files_.tensors().end() || embedding == files_.tensors().end()) return false;
    const Tensor a = head->second, b = embedding->second;
    if (a.bytes() != b.bytes() || a.dtype != b.dtype) return true;
    // A few pages tell: copies are whole, and to read all of them would take the time that mapping saves.
    constexpr size_t kPage = 4096, kPages = 64;
    const size_t bytes = a.bytes(), step = std::max(kPage, bytes / kPages);
    for (size_t at = 0; at < bytes; at += step) {
      if (std::memcmp(static_cast<const char*>(a.data) + at, static_cast<const char*>(b.data) + at,
                      std::min(kPage, bytes - at)) != 0) {
        return true;
      }
    }
    return false;
  }

  StoredParam find(const Param& p) const override {
    StoredParam stored{p.name, {}, p.transpose, p.file_rows};
    if (const std::string name = stored_as(p.name); !name.empty()) {
      stored.name = name;
      const auto it = files_.unreadable().find(name);
      if (it != files_.unreadable().end()) refuse_type(name, it->second);
      stored.tensor = files_.tensors().at(name);
    }
    return stored;
  }

  void check_all_used(const ParamStore& params) const override {
    std::set<std::string> used;
    for (const Param& p : params.list()) used.insert(find(p).name);
    for (const auto& [name, type] : files_.unreadable()) {
      if (!ignorable(name, config_)) refuse_type(name, type);
    }
    for (const auto& [name, tensor] : files_.tensors()) {
      if (!used.contains(name) && !ignorable(name, config_)) {
        throw Error(cat(path_.string(), ": ", name, ": a ", config_.model_type,
                        " model with this config.json has no such tensor"));
      }
    }
  }

 private:
  static const fs::path& checked(const fs::path& folder) {
    const bool weights =
        fs::exists(folder / "model.safetensors") || fs::exists(folder / "model.safetensors.index.json");
    if (!weights &&
        (fs::exists(folder / "pytorch_model.bin") || fs::exists(folder / "pytorch_model.bin.index.json"))) {
      throw Error(cat((folder / "pytorch_model.bin").string(),
                      ": is a pickle, which runs code when it is read; save the model as safetensors "
                      "(save_pretrained of a recent transformers does) and open that"));
    }
    return folder;
  }

  /// The name that the files have for it; empty where they have none. Some leave the prefix out, the first
  /// BERT files spell norms otherwise, and transformers 4 writes an untied head's bias once, by its other
  /// name.
  std::string stored_as(const std::string& name) const {
    const WeightNames& names = architecture(config_).names;
    const std::string prefix = names.prefix;
    std::vector<std::string> spellings = {name};
    if (*names.head_bias && name == cat(names.head, ".bias")) spellings.emplace_back(names.head_bias);
    if (name.starts_with(prefix)) spellings.push_back(name.substr(prefix.size()));
    for (size_t i = 0, n = spellings.size(); i < n; ++i) {
      for (const auto& [now, then] : {std::pair{"LayerNorm.weight", "gamma"}, {"LayerNorm.bias", "beta"}}) {
        if (spellings[i].ends_with(now))
          spellings.push_back(spellings[i].substr(0, spellings[i].rfind('.') + 1) + then);
      }
    }
    for (const std::string& spelling : spellings) {
      if (files_.tensors().contains(spelling) || files_.unreadable().contains(spelling)) return spelling;
    }
    return {};
  }

  SafetensorsFolder files_;
};

ModelConfig config_of(const Llama2cHeader& h) {
  ModelConfig c = ModelConfig::of_family("llama");
  c.hidden_size = h.hidden_size;
  c.intermediate_size = h.intermediate_size;
  c.num_hidden_layers = h.num_hidden_layers;
  c.num_attention_heads = h.num_attention_heads;
  c.num_key_value_heads = h.num_key_value_heads;
  c.vocab_size = h.vocab_size;
  c.max_position_embeddings = h.max_position_embeddings;
  c.tie_word_embeddings = h.tie_word_embeddings;
  c.norm_eps = 1e-5;
  // Those of Llama's tokenizer, which every such file is made with.
  c.bos_token_id = 1;
  c.eos_token_id = 2;
  c.stop_ids = {1, 2};  // run.c ends at BOS
  c.resolve();
  return c;
}

class Llama2cSource : public ModelSource {
 public:
  explicit Llama2cSource(const fs::path& path) : Llama2cSource(Llama2cFile(path), path) {}
  const char* format() const override { return "llama2.c"; }
  StoredParam find(const Param& p) const override {
    StoredParam stored{p.name, {}, false, adjacent_rows(config_, p.name)};
    const auto it = file_.tensors().find(p.name);
    if (it != file_.tensors().end()) stored.tensor = it->second;
    return stored;
  }
  void check_all_used(const ParamStore&) const override {}  // the format leaves no choice

 private:
  Llama2cSource(Llama2cFile file, const fs::path& path)
      : ModelSource(path, config_of(file.header())), file_(std::move(file)) {}
  Llama2cFile file_;
};

bool begins_with_gguf(const fs::path& path) {
  char magic[4] = {};
  std::ifstream(path, std::ios::binary).read(magic, sizeof magic);
  return std::string_view(magic, sizeof magic) == "GGUF";
}
}  // namespace

std::unique_ptr<ModelSource> ModelSource::open(const fs::path& path) {
  if (!fs::exists(path / "config.json") && fs::is_regular_file(path / "model.gguf"))
    return std::make_unique<GgufSource>(path / "model.gguf");
  if (!fs::is_regular_file(path)) return std::make_unique<FolderSource>(find_model_folder(path));
  if (path.extension() == ".gguf" || begins_with_gguf(path)) return std::make_unique<GgufSource>(path);
  if (path.extension() == ".bin" && path.filename() != "pytorch_model.bin")
    return std::make_unique<Llama2cSource>(path);
  throw UsageError(
      cat(path.string(), ": expected a model folder, a .gguf file or a llama2.c .bin",
          path.filename() == "pytorch_model.bin"
              ? "; this is a pickle, which runs code when it is read: save the model as safetensors"
              : ""));
}

void ModelSource::refuse_type(const std::string& name, const std::string& type) const {
  throw Error(cat(path_.string(), ": ", name, ": tensors of type ", type,
                  " cannot be read; save the model as F32, F16 or BF16"));
}

void ModelSource::read(const Param& p, float* values) const {
  const StoredParam stored = find(p);
  const Tensor& t = stored.tensor;
  if (!t) throw Error(cat(path_.string(), ": ", stored.name, ": not among the file's tensors"));
  Shape expected = p.value.shape;
  if (stored.transpose) std::swap(expected.dims[0], expected.dims[1]);
  if (!(t.shape == expected)) {
    throw Error(cat(path_.string(), ": ", stored.name, ": expected ", expected.text(), ", found ",
                    t.shape.text(), "; is config.json from another model?"));
  }
  const int64_t rows = t.shape[0], cols = t.size() / std::max<int64_t>(rows, 1);
  const auto row = [&](int64_t r) {
    return static_cast<const std::byte*>(t.data) + dtype_bytes(t.dtype, r * cols);
  };
  if (stored.transpose) {
    std::vector<float> line(static_cast<size_t>(cols));
    for (int64_t r = 0; r < rows; ++r) {
      to_f32(row(r), t.dtype, line.data(), cols);
      for (int64_t c = 0; c < cols; ++c) values[c * rows + r] = line[static_cast<size_t>(c)];
    }
  } else if (stored.rows.empty()) {
    to_f32(t.data, t.dtype, values, t.size());
  } else {
    for (int64_t r = 0; r < rows; ++r)
      to_f32(row(stored.rows[static_cast<size_t>(r)]), t.dtype, values + r * cols, cols);
  }
  for (int64_t i = 0; stored.shift != 0 && i < t.size(); ++i) values[i] += stored.shift;
  release_pages(t.data, t.bytes());
}

}  // namespace llmtool
