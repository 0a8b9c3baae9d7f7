#include "llmtool/model/describe.h"

#include <map>

#include "llmtool/core/error.h"
#include "llmtool/model/transformer.h"
#include "model/architecture.h"

namespace llmtool {

namespace {
enum Part : size_t { kEmbedding, kAttention, kFeedForward, kNorms, kHead };

Part part_of(const std::string& param, const WeightNames& names) {
  const auto has = [&](const std::string& part) {
    return !part.empty() && ("." + param).find("." + part + ".") != std::string::npos;
  };
  for (const char* norm :
       {names.embedding_norm, names.final_norm, names.attention_norm, names.attention_out_norm,
        names.after_attention_norm, names.mlp_norm, names.mlp_out_norm, names.after_mlp_norm, names.q_norm,
        names.k_norm, names.head_norm}) {
    if (has(norm)) return kNorms;
  }
  if (has(names.embedding) || has(names.positions) || has(names.token_types)) return kEmbedding;
  if (has(names.head) || has(names.head_transform) || param == names.head_bias || has(names.pooler) ||
      has(names.classifier))
    return kHead;
  const ExpertNames& experts = names.experts;
  if (has(names.down) || has(experts.router) || has(experts.shared_gate) || has(experts.shared_down) ||
      (*experts.prefix && param.find(experts.prefix) != std::string::npos))
    return kFeedForward;
  for (const auto* list : {&names.up, &experts.shared_up}) {
    for (const char* up : *list) {
      if (has(up)) return kFeedForward;
    }
  }
  return kAttention;
}
}  // namespace

Weights describe_weights(const ModelSource& source) {
  const Transformer model(source.config());  // its memory is not touched
  const WeightNames& names = architecture(model.config()).names;
  Weights weights;
  weights.parts = {{"embedding", 0}, {"attention", 0}, {"feed_forward", 0}, {"norms", 0}, {"head", 0}};
  std::map<DType, int64_t> counts;
  for (const Param& p : model.params().list()) {
    const StoredParam stored = source.find(p);
    if (!stored.tensor)
      throw Error(cat(source.path().string(), ": ", stored.name, ": not among the file's tensors"));
    const int64_t n = p.value.size();
    weights.parts[part_of(p.name, names)].second += n;
    weights.count += n;
    counts[stored.tensor.dtype] += n;
    const bool as_it_is = !stored.transpose && stored.rows.empty() && stored.shift == 0;
    weights.bytes += as_it_is ? stored.tensor.bytes() : static_cast<size_t>(n) * sizeof(float);
  }
  for (const auto& [dtype, n] : counts) {
    if (n > counts[weights.dtype]) weights.dtype = dtype;
  }
  return weights;
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
    if (c.generates()) {
      KvCache cache(c, context);  // not touched
      model.forward(dry, std::span(ids).first(static_cast<size_t>(std::min<int64_t>(context, 512))), cache,
                    Tensor(nullptr, DType::f32, Shape{1, c.vocab_size}));
      needs.run = static_cast<size_t>(batch) * (cache.bytes() + bytes(c.vocab_size));
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
