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
          names.after_attention_norm, names.mlp_norm, names.mlp_out_norm, names.after_mlp_norm, names.q_norm,
          names.k_norm, names.head_norm}) {
      if (has(p, norm)) return true;
    }
    return false;
  };
  for (const Param& p : model.params().list()) {
    size_t part = 1;
    if (is_norm(p)) {
      part = 3;
    } else if (has(p, names.embedding) || has(p, names.positions) || has(p, names.token_types)) {
      part = 0;
    } else if (has(p, names.head) || has(p, names.head_transform) || p.name == names.head_bias ||
               has(p, names.pooler) || has(p, names.classifier)) {
      part = 4;
    } else if (has(p, names.down) || has(p, names.experts.router) || has(p, names.experts.shared_gate) ||
               has(p, names.experts.shared_down) ||
               (*names.experts.prefix && p.name.find(names.experts.prefix) != std::string::npos)) {
      part = 2;
    } else {
      for (const auto* list : {&names.up, &names.experts.shared_up}) {
        for (const char* up : *list) {
          if (has(p, up)) part = 2;
        }
      }
    }
    parts[part].second += p.value.size();
  }
  return parts;
}

MemoryNeeds memory_needs(const ModelConfig& config, ThreadPool& pool, int64_t batch, int64_t context) {
  ModelConfig c = config;
  if (c.head == HeadKind::none) {  // it is trained as a classifier
    c.head = HeadKind::classification;
    c.labels = {"0", "1"};
  }
  Transformer model(c);
  c = model.config();
  const auto bytes = [](int64_t elements) { return static_cast<size_t>(elements) * sizeof(float); };
  const size_t weights = bytes(model.params().count());
  const std::vector<int32_t> ids(static_cast<size_t>(batch * context));
  MemoryNeeds needs;
  {
    Arena saved, scratch;
    Exec dry{pool, saved, scratch, Rng()};
    needs.run = weights;
    if (c.generates()) {
      KvCache cache(c, context);  // not touched
      model.forward(dry, std::span(ids).first(static_cast<size_t>(std::min<int64_t>(context, 512))), cache,
                    Tensor(nullptr, DType::f32, Shape{1, c.vocab_size}));
      const auto widths = 2 * c.num_hidden_layers * c.kv_heads() * c.head_dim;
      needs.run += static_cast<size_t>(batch) * bytes(widths * context + c.vocab_size);
    } else {
      model.encode(dry, Batch::of(ids, batch),
                   Tensor(nullptr, DType::f32, Shape{batch * context, c.hidden_size}));
    }
    needs.run += scratch.peak();
  }
  Arena saved, scratch;
  Exec dry{pool, saved, scratch, Rng()};
  model.params().allocate_gradients();  // not touched
  const bool classifies = c.head == HeadKind::classification;
  const auto targets = std::span(ids).first(static_cast<size_t>(classifies ? batch : batch * context));
  model.train_step(dry, Batch::of(ids, batch), targets, {}, false);
  needs.train_full = 4 * weights + saved.peak() + scratch.peak();
  const int64_t q = c.num_attention_heads * c.head_dim, kv = c.kv_heads() * c.head_dim;
  const int64_t adapters = c.num_hidden_layers * 8 * (2 * c.hidden_size + q + kv);
  needs.train_lora = weights + 4 * bytes(adapters) + saved.peak() + scratch.peak();
  return needs;
}

}  // namespace llmtool
