#include "llmtool/model/transformer.h"

#include <cmath>

#include "llmtool/core/error.h"
#include "model/transformer_impl.h"

namespace llmtool {

namespace {
Activation activation_named(const std::string& name) {
  if (name == "silu") return Activation::silu;
  return name == "gelu" ? Activation::gelu : Activation::gelu_tanh;
}
}  // namespace

Linear Transformer::Impl::add_linear(const std::string& prefix, const std::vector<const char*>& names,
                                     int64_t in, const std::vector<int64_t>& outs, bool bias) {
  Linear linear(in);
  std::vector<Param*> weights, biases(names.size());
  for (size_t i = 0; i < names.size(); ++i) {
    weights.push_back(store.add(prefix + names[i] + ".weight", {outs[i], in}, true, row.transposed));
  }
  for (size_t i = 0; bias && i < names.size(); ++i) {
    biases[i] = store.add(prefix + names[i] + ".bias", {outs[i]}, false);
  }
  for (size_t i = 0; i < names.size(); ++i) linear.add(weights[i], biases[i]);
  return linear;
}

Norm Transformer::Impl::add_norm(const std::string& name) {
  Norm norm{row.norm, config.norm_eps, store.add(name + ".weight", {config.hidden_size}, false), nullptr};
  if (row.norm_bias) norm.bias = store.add(name + ".bias", {config.hidden_size}, false);
  return norm;
}

Block Transformer::Impl::add_block(int64_t layer) {
  const WeightNames& n = row.names;
  const ModelConfig& c = config;
  const std::string prefix = cat(n.prefix, n.layers, layer, ".");
  const int64_t q = c.num_attention_heads * c.head_dim, kv = c.kv_heads() * c.head_dim,
                F = c.intermediate_size;
  const bool attention_bias = row.always_biased || c.attention_bias,
             mlp_bias = row.always_biased || c.mlp_bias;
  Block block;
  block.heads = c.num_attention_heads;
  block.kv_heads = c.kv_heads();
  block.head_dim = c.head_dim;
  block.attention_dropout = c.attention_dropout;
  block.residual_dropout = c.residual_dropout;
  block.activation = activation_named(c.hidden_act);
  block.gated = row.gated;
  block.attention_norm = add_norm(prefix + n.attention_norm);
  const std::vector<int64_t> qkv_widths =
      n.qkv.size() == 1 ? std::vector{q + 2 * kv} : std::vector{q, kv, kv};
  block.qkv = add_linear(prefix, n.qkv, c.hidden_size, qkv_widths, attention_bias);
  block.out = add_linear(prefix, {n.out}, q, {c.hidden_size}, attention_bias);
  residual_projections.push_back(store.find(prefix + n.out + ".weight"));
  block.mlp_norm = add_norm(prefix + n.mlp_norm);
  block.up = add_linear(prefix, n.up, c.hidden_size, std::vector<int64_t>(n.up.size(), F), mlp_bias);
  block.down = add_linear(prefix, {n.down}, F, {c.hidden_size}, mlp_bias);
  residual_projections.push_back(store.find(prefix + n.down + ".weight"));
  return block;
}

Transformer::Impl::Impl(ModelConfig c)
    : config((c.resolve(), std::move(c))), row(architecture(config.model_type)) {
  const WeightNames& n = row.names;
  embedding = store.add(cat(n.prefix, n.embedding, ".weight"), {config.vocab_size, config.hidden_size}, true);
  if (row.learned_positions) {
    positions = store.add(cat(n.prefix, n.positions, ".weight"),
                          {config.max_position_embeddings, config.hidden_size}, true);
  }
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) blocks.push_back(add_block(layer));
  final_norm = add_norm(cat(n.prefix, n.final_norm));
  head = config.tie_word_embeddings
             ? embedding
             : store.add(cat(n.head, ".weight"), {config.vocab_size, config.hidden_size}, true);
  store.allocate();
}

Observer Transformer::Impl::layer_observer(int64_t layer) const {
  if (!observer) return {};
  return [this, layer](const char* name, Tensor value) { observer(name, layer, value); };
}

void Transformer::Impl::check_ids(std::span<const int32_t> ids, int32_t lowest, const char* what) const {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < lowest || ids[i] >= config.vocab_size) {
      throw Error(cat("[model] ", what, " ", i, ": expected an id below the vocabulary's ", config.vocab_size,
                      ", found ", ids[i], "; was the text encoded with another tokenizer?"));
    }
  }
}

void Transformer::Impl::embed_tokens(Exec& exec, const Sequences& s, std::span<const int32_t> ids,
                                     Tensor x) const {
  embed(exec, embedding->value, positions ? positions->value : Tensor(), ids.data(), s.positions, x);
  report("embedding", -1, x);
}

Tensor Transformer::Impl::rope_of(Exec& exec, const int32_t* position, int64_t n) const {
  if (row.learned_positions) return {};
  const Tensor table = exec.scratch.take({n, config.head_dim});
  rope_table(exec, position, config.rope_theta, table);
  return table;
}

void Transformer::Impl::logits_of(Exec& exec, Tensor hidden, Tensor logits, bool few_rows) const {
  ArenaScope scope(exec.scratch);
  const int64_t rows = hidden.rows(), C = config.hidden_size, V = config.vocab_size;
  const Tensor n = exec.scratch.take({rows, C});
  final_norm.forward(exec, hidden, n);
  report("final_norm", -1, n);
  const float* weight = head->value.f32();
  if (few_rows) {
    matvec(exec, rows, V, C, n.f32(), weight, logits.f32(), V);
  } else {
    matmul(exec, rows, V, C, {n.f32(), C, 1}, {weight, 1, C}, logits.f32(), V);
  }
}

Transformer::Transformer(ModelConfig config) : impl_(std::make_unique<Impl>(std::move(config))) {}
Transformer::~Transformer() = default;
Transformer::Transformer(Transformer&&) noexcept = default;

const ModelConfig& Transformer::config() const { return impl_->config; }
ParamStore& Transformer::params() { return impl_->store; }
const ParamStore& Transformer::params() const { return impl_->store; }
void Transformer::observe(std::function<void(const char*, int64_t, Tensor)> observer) {
  impl_->observer = std::move(observer);
}

void Transformer::initialize(uint64_t seed) {
  uint64_t stream = 0;
  for (Param& p : impl_->store.list()) {
    Rng rng = Rng(seed).split(stream++);
    if (p.value.shape.rank == 1) {
      const bool is_norm_weight = p.name.ends_with(".weight");
      array(p.value).setConstant(is_norm_weight ? 1.0f : 0.0f);
      continue;
    }
    double deviation = impl_->config.initializer_range;
    const auto& projections = impl_->residual_projections;
    if (impl_->row.scaled_residual &&
        std::find(projections.begin(), projections.end(), &p) != projections.end()) {
      deviation /= std::sqrt(2.0 * static_cast<double>(impl_->config.num_hidden_layers));
    }
    for (int64_t i = 0; i < p.value.size(); ++i)
      p.value.f32()[i] = static_cast<float>(deviation * rng.normal());
  }
}

}  // namespace llmtool
