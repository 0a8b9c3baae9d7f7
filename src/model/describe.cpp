#include "llmtool/model/describe.h"

#include "llmtool/model/transformer.h"
#include "model/architecture.h"

namespace llmtool {

std::vector<std::pair<std::string, int64_t>> parameters_by_part(const ModelConfig& config) {
  const Transformer model(config);  // its memory is not touched
  const WeightNames& names = architecture(model.config()).names;
  std::vector<std::pair<std::string, int64_t>> parts = {
      {"embedding", 0}, {"attention", 0}, {"feed_forward", 0}, {"norms", 0}, {"head", 0}};
  const auto has = [](const Param& p, const std::string& part) {
    return !part.empty() && ("." + p.name).find("." + part + ".") != std::string::npos;
  };
  const auto is_norm = [&](const Param& p) {
    for (const char* norm :
         {names.embedding_norm, names.final_norm, names.attention_norm, names.attention_out_norm,
          names.mlp_norm, names.mlp_out_norm, names.q_norm, names.k_norm}) {
      if (has(p, norm)) return true;
    }
    return false;
  };
  for (const Param& p : model.params().list()) {
    size_t part = 1;
    if (is_norm(p)) {
      part = 3;
    } else if (has(p, names.embedding) || has(p, names.positions)) {
      part = 0;
    } else if (has(p, names.head)) {
      part = 4;
    } else if (has(p, names.down)) {
      part = 2;
    } else {
      for (const char* up : names.up) {
        if (has(p, up)) part = 2;
      }
    }
    parts[part].second += p.value.size();
  }
  return parts;
}

MemoryNeeds memory_needs(const ModelConfig& config, ThreadPool& pool, int64_t batch, int64_t context) {
  Transformer model(config);
  const ModelConfig& c = model.config();
  const auto bytes = [](int64_t elements) { return static_cast<size_t>(elements) * sizeof(float); };
  const size_t weights = bytes(model.params().count());
  MemoryNeeds needs;
  {
    Arena saved, scratch;
    Exec dry{pool, saved, scratch, Rng()};
    KvCache cache(c, context);  // not touched
    const std::vector<int32_t> ids(static_cast<size_t>(std::min<int64_t>(context, 512)));
    const auto V = static_cast<size_t>(c.vocab_size);
    model.forward(dry, ids, cache, Tensor(nullptr, DType::f32, Shape{1, c.vocab_size}));
    const auto widths = 2 * c.num_hidden_layers * c.kv_heads() * c.head_dim;
    needs.run =
        weights + static_cast<size_t>(batch) * (bytes(widths * context) + V * sizeof(float)) + scratch.peak();
  }
  Arena saved, scratch;
  Exec dry{pool, saved, scratch, Rng()};
  model.params().allocate_gradients();  // not touched
  const std::vector<int32_t> ids(static_cast<size_t>(batch * context));
  model.train_step(dry, ids, ids, batch, {}, false);
  needs.train_full = 4 * weights + saved.peak() + scratch.peak();
  const int64_t q = c.num_attention_heads * c.head_dim, kv = c.kv_heads() * c.head_dim;
  const int64_t adapters = c.num_hidden_layers * 8 * (2 * c.hidden_size + q + kv);
  needs.train_lora = weights + 4 * bytes(adapters) + saved.peak() + scratch.peak();
  return needs;
}

}  // namespace llmtool
