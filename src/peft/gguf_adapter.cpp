#include "llmtool/peft/gguf_adapter.h"

#include "llmtool/core/error.h"
#include "llmtool/io/gguf.h"
#include "llmtool/kernels/convert.h"
#include "llmtool/nn/low_rank.h"
#include "llmtool/peft/adapter.h"
#include "model/gguf_names.h"

namespace llmtool {

namespace {
namespace fs = std::filesystem;

/// A change W + scale B A of one tensor.
struct Change {
  std::string tensor;
  RowMatrix a, b;  // (R, in), (out, R)
  double scale;
  bool transposed;  // of the embedding: the file has A as (in, R)
  double alpha() const { return scale * static_cast<double>(a.rows()); }
};

void check_kind(const AdapterConfig& c, const Adapter& adapter, const Transformer& model) {
  const auto refuse = [](const std::string& what) {
    throw UsageError(cat("llama.cpp's adapters are low-rank changes alone, found ", what,
                         "; `merge --to gguf` puts what weights can hold into them"));
  };
  if (!c.is_lora()) refuse(c.peft_type);
  if (c.use_dora) refuse("magnitudes (use_dora)");
  if (c.init_lora_weights.starts_with("pissa")) refuse("init_lora_weights " + c.init_lora_weights);
  if (!c.target_parameters.empty()) refuse("changes of experts or routers (target_parameters)");
  if (!adapter.saved().empty()) refuse(*adapter.saved().begin() + ", which is brought whole");
  const bool of_embedding = adapter.change_of(model.embedding().name) || adapter.embedding_change();
  if (model.config().tie_word_embeddings && of_embedding)
    refuse("a change of a head or an embedding that are one");
}

std::vector<Change> changes_of(Transformer& model, const Adapter& adapter) {
  const ModelConfig& c = model.config();
  const Architecture& row = architecture(c);
  std::vector<Change> list;
  for (const Param& p : model.params().list()) {
    const LowRank* const l = adapter.change_of(p.name);
    if (!l) continue;
    Change change{gguf_place(row, p.name).tensor, matrix(l->a.value()), matrix(l->b.value()), l->scale,
                  false};
    if (l->e) change.b = change.b * array(l->e->value).matrix().asDiagonal();
    to_gguf_rows(c, p.name, {change.b.data(), static_cast<size_t>(change.b.size())});
    list.push_back(std::move(change));
  }
  if (const EmbeddingChange* const e = adapter.embedding_change()) {
    list.push_back({gguf_place(row, model.embedding().name).tensor, matrix(e->a->value), matrix(e->b->value),
                    e->scale, true});
  }
  return list;
}
}  // namespace

void write_gguf_adapter(const std::shared_ptr<const ModelSource>& base, const fs::path& folder,
                        const fs::path& file, DType dtype) {
  const ModelConfig& c = base->config();
  const AdapterConfig config = read_adapter_config(folder);
  if (config.task_type == "SEQ_CLS")
    throw UsageError("GGUF: expected an adapter of a language model, found SEQ_CLS");
  check_gguf(c);
  Transformer model(c);  // its memory is not touched
  const auto adapter = Adapter::load(model, folder);
  check_kind(config, *adapter, model);
  std::vector<Change> changes = changes_of(model, *adapter);
  double alpha = 0;
  for (size_t i = 0; i < changes.size() && alpha == 0; ++i) alpha = changes[i].alpha();
  if (alpha == 0) alpha = 1;  // 0 would be no scale at all
  std::vector<GgufTensor> tensors;
  for (Change& change : changes) {
    if (change.alpha() != alpha) change.b *= static_cast<float>(change.alpha() / alpha);
    if (change.transposed) change.a = RowMatrix(change.a.transpose());
    tensors.push_back({change.tensor + ".lora_a", {change.a.rows(), change.a.cols()}, dtype});
    tensors.push_back({change.tensor + ".lora_b", {change.b.rows(), change.b.cols()}, dtype});
  }
  const uint32_t kind = dtype == DType::f32 ? 0 : dtype == DType::f16 ? 1 : 32;
  GgufWriter writer(file,
                    {{"general.type", std::string("adapter")},
                     {"general.architecture", std::string(gguf_family_of(c.model_type)->name)},
                     {"general.name", folder.filename().string()},
                     {"general.file_type", kind},
                     {"adapter.type", std::string("lora")},
                     {"adapter.lora.alpha", static_cast<float>(alpha)}},
                    tensors);
  for (Change& change : changes) {
    for (RowMatrix* m : {&change.a, &change.b})
      writer.write(Tensor(m->data(), {m->rows(), m->cols()}), from_f32);
  }
  writer.commit();
}

}  // namespace llmtool
