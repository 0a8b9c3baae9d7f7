#include "llmtool/model/transformer.h"

#include <cmath>

#include "llmtool/core/error.h"
#include "llmtool/kernels/elementwise.h"
#include "model/transformer_impl.h"

namespace llmtool {

Activation activation_named(const std::string& name) {
  if (name == "silu") return Activation::silu;
  if (name == "relu") return Activation::relu;
  return name == "gelu" ? Activation::gelu : Activation::gelu_tanh;
}

namespace {
std::vector<int32_t> types_of(const Batch& batch) {
  if (batch.token_types.empty()) return std::vector<int32_t>(batch.ids.size());
  return {batch.token_types.begin(), batch.token_types.end()};
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

Norm Transformer::Impl::add_norm(const std::string& prefix, const char* name, int64_t width) {
  if (*name == '\0') return {};
  const int64_t size = width ? width : config.hidden_size;
  Norm norm{row.norm, config.norm_eps, store.add(cat(prefix, name, ".weight"), {size}, false), nullptr,
            row.norm_offset};
  norm.weight->initial = 1 - row.norm_offset;
  if (row.norm_bias) norm.bias = store.add(cat(prefix, name, ".bias"), {size}, false);
  return norm;
}

std::vector<int64_t> Transformer::Impl::qkv_file_rows() const {
  const int64_t D = config.head_dim, K = config.kv_heads(), group = config.num_attention_heads / K;
  std::vector<int64_t> rows;
  const auto add = [&](int64_t kv, int64_t member) {
    for (int64_t i = 0; i < D; ++i) rows.push_back((kv * (group + 2) + member) * D + i);
  };
  for (int64_t head = 0; head < config.num_attention_heads; ++head) add(head / group, head % group);
  for (int64_t kv = 0; kv < K; ++kv) add(kv, group);
  for (int64_t kv = 0; kv < K; ++kv) add(kv, group + 1);
  return rows;
}

Block Transformer::Impl::add_block(int64_t layer) {
  const WeightNames& n = row.names;
  const ModelConfig& c = config;
  const std::string prefix = cat(n.prefix, n.layers, layer, ".");
  const int64_t q = c.num_attention_heads * c.head_dim, kv = c.kv_heads() * c.head_dim,
                F = c.intermediate_size;
  const bool mlp_bias = on(row.mlp_bias, c);
  Block block;
  block.heads = c.num_attention_heads;
  block.kv_heads = c.kv_heads();
  block.head_dim = c.head_dim;
  block.attention_dropout = c.attention_dropout;
  block.residual_dropout = c.residual_dropout;
  block.rules.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(c.query_pre_attn_scalar)));
  block.rules.window = c.window_of(layer);
  block.rules.softcap = static_cast<float>(c.attn_logit_softcapping);
  block.local_rope = block.rules.window > 0 && has_local_rope(c);
  block.parallel = on(row.parallel, c);
  block.shared_norm = on(row.shared_norm, c);
  block.activation = activation_named(c.hidden_act);
  block.gated = row.gated;
  block.rules.causal = row.causal;
  block.attention_norm = add_norm(prefix, n.attention_norm);
  const std::vector<int64_t> qkv_widths =
      n.qkv.size() == 1 ? std::vector{q + 2 * kv} : std::vector{q, kv, kv};
  block.qkv = add_linear(prefix, n.qkv, c.hidden_size, qkv_widths, on(row.qkv_bias, c));
  if (row.qkv_layout == QkvLayout::grouped) {
    for (const char* kind : {".weight", ".bias"}) {
      if (Param* const p = store.find(cat(prefix, n.qkv[0], kind))) p->file_rows = qkv_file_rows();
    }
  }
  block.q_norm = add_norm(prefix, n.q_norm, row.norm_per_head ? c.head_dim : q);
  block.k_norm = add_norm(prefix, n.k_norm, row.norm_per_head ? c.head_dim : kv);
  block.out = add_linear(prefix, {n.out}, q, {c.hidden_size}, on(row.out_bias, c));
  residual_projections.push_back(store.find(prefix + n.out + ".weight"));
  block.attention_out_norm = add_norm(prefix, n.attention_out_norm);
  block.after_attention_norm = add_norm(prefix, n.after_attention_norm);
  block.mlp_norm = add_norm(prefix, n.mlp_norm);
  if (c.has_experts(layer)) {
    block.experts = add_experts(prefix);
    return block;
  }
  const int64_t up_width = row.gated && n.up.size() == 1 ? 2 * F : F;
  block.up = add_linear(prefix, n.up, c.hidden_size, std::vector<int64_t>(n.up.size(), up_width), mlp_bias);
  block.down = add_linear(prefix, {n.down}, F, {c.hidden_size}, mlp_bias);
  residual_projections.push_back(store.find(prefix + n.down + ".weight"));
  block.mlp_out_norm = add_norm(prefix, n.mlp_out_norm);
  block.after_mlp_norm = add_norm(prefix, n.after_mlp_norm);
  return block;
}

Experts Transformer::Impl::add_experts(const std::string& prefix) {
  const ExpertNames& n = row.names.experts;
  const int64_t C = config.hidden_size;
  const auto add = [&](const std::string& at, const std::vector<const char*>& up, const char* down,
                       int64_t F) {
    GatedMlp mlp{add_linear(at, up, C, {F, F}, false), add_linear(at, {down}, F, {C}, false)};
    return mlp;
  };
  Experts e;
  e.chosen = config.num_experts_per_tok;
  e.normalized = config.norm_topk_prob;
  e.activation = activation_named(config.hidden_act);
  e.router = add_linear(prefix, {n.router}, C, {config.num_experts}, false);
  for (int64_t i = 0; i < config.num_experts; ++i) {
    e.experts.push_back(add(cat(prefix, n.prefix, i, "."), n.up, n.down, config.moe_intermediate_size));
  }
  if (!n.shared_up.empty()) {
    e.shared = add(prefix, n.shared_up, n.shared_down, config.shared_expert_intermediate_size);
    e.shared_gate = add_linear(prefix, {n.shared_gate}, C, {1}, false);
  }
  return e;
}

Transformer::Impl::Impl(ModelConfig c, std::shared_ptr<const ModelSource> files, const LoadOptions& options)
    : config((c.resolve(), std::move(c))), row(architecture(config)), source(std::move(files)) {
  const WeightNames& n = row.names;
  embedding = store.add(cat(n.prefix, n.embedding, ".weight"), {config.vocab_size, config.hidden_size}, true);
  if (row.scaled_embedding) embedding_scale = std::sqrt(static_cast<float>(config.hidden_size));
  embedding_norm = add_norm(n.prefix, n.embedding_norm);
  if (row.positions == Positions::learned) {
    positions = store.add(cat(n.prefix, n.positions, ".weight"),
                          {config.max_position_embeddings, config.hidden_size}, true);
  }
  if (*n.token_types) {
    token_types = store.add(cat(n.prefix, n.token_types, ".weight"),
                            {config.type_vocab_size, config.hidden_size}, true);
  }
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) blocks.push_back(add_block(layer));
  final_norm = add_norm(n.prefix, n.final_norm);
  add_head();
  for (Param& p : store.list()) p.trainable = !source || (options.trains && options.trains(p));
  if (source) use_in_place();
  if (source && options.quantize) quantize(*options.quantize);
  store.allocate();
  if (source) read_the_rest();
}

/// Lets matrices lie where the file has them: those that only products and the embedding read, in their own
/// order.
void Transformer::Impl::use_in_place() {
  for (Param& p : store.list()) {
    const StoredParam stored = source->find(p);
    const bool aligned = reinterpret_cast<uintptr_t>(stored.tensor.data) % sizeof(float) == 0;
    if (p.trainable || p.value.shape.rank != 2 || &p == positions || &p == token_types || stored.transpose ||
        !stored.rows.empty() || stored.shift != 0 || !aligned || !(stored.tensor.shape == p.value.shape)) {
      continue;
    }
    p.value = stored.tensor;
    p.mapped = true;
  }
}

void Transformer::Impl::read_the_rest() {
  fill_quantized();
  for (Param& p : store.list()) {
    if (!p.mapped) source->read(p, p.value.f32());
  }
  source->check_all_used(store);
}

Observer Transformer::Impl::layer_observer(int64_t layer) const {
  if (!observer) return {};
  return [this, layer](const char* name, Tensor value) { observer(name, layer, value); };
}

void Transformer::Impl::check_ids(std::span<const int32_t> ids, int32_t lowest, int64_t limit,
                                  const char* what) const {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= lowest && ids[i] < limit) continue;
    throw Error(cat("[model] ", what, " ", i, ": expected an id below ", limit, ", found ", ids[i],
                    limit == config.vocab_size ? "; was the text encoded with another tokenizer?" : ""));
  }
}

namespace {
constexpr uint64_t kNoiseStream = ~uint64_t{2};

/// Uniform noise of size alpha / sqrt(T C) in each sequence of T positions.
void add_noise(Exec& exec, const Sequences& s, double alpha, Tensor x) {
  const Rng rng = exec.rng.split(kNoiseStream);
  for (size_t b = 0; !exec.dry() && b + 1 < s.starts.size(); ++b) {
    const int64_t first = s.starts[b] * x.cols(), last = s.starts[b + 1] * x.cols();
    const double size = alpha / std::sqrt(static_cast<double>(last - first));
    for (int64_t i = first; i < last; ++i) {
      const double uniform = static_cast<double>(rng.at(static_cast<uint64_t>(i)) >> 11) * 0x1p-52 - 1;
      x.f32()[i] += static_cast<float>(size * uniform);
    }
  }
}
}  // namespace

/// Rows of virtual tokens are their own embeddings; elsewhere `ids` are the batch's.
void Transformer::Impl::embed_virtual(Exec& exec, std::span<const int32_t> ids, Tensor x) const {
  const int64_t C = x.cols();
  for (size_t row = 0; !exec.dry() && row < ids.size(); ++row) {
    if (ids[row] >= 0) continue;
    float* const to = x.f32() + static_cast<int64_t>(row) * C;
    if (virtual_tokens.embeddings) {
      std::copy_n(virtual_tokens.embeddings->value.f32() + (-1 - ids[row]) * C, C, to);
    } else {
      std::fill_n(to, C, 0.0f);
    }
  }
}

void Transformer::Impl::embed_tokens(Exec& exec, const Sequences& s, const Batch& batch, Tensor raw, Tensor x,
                                     double noise) const {
  std::vector<int32_t> ids(batch.ids.begin(), batch.ids.end());
  if (!exec.dry())
    std::replace_if(
        ids.begin(), ids.end(), [](int32_t id) { return id < 0; }, 0);
  embed(exec, embedding->value, ids.data(), raw);
  for (const EmbeddingChange& change : embedding_changes) add_embedding_change(exec, change, ids, raw);
  if (embedding_scale != 1) scale(exec, raw, embedding_scale);
  if (virtual_tokens.count > 0) embed_virtual(exec, batch.ids, raw);
  if (noise > 0) add_noise(exec, s, noise, raw);
  if (positions) embed_more(exec, positions->value, s.positions, raw);
  if (token_types) embed_more(exec, token_types->value, types_of(batch).data(), raw);
  if (embedding_norm) embedding_norm.forward(exec, raw, x);
  report("embedding", -1, x);
}

void Transformer::Impl::embed_tokens_backward(Exec& exec, const Sequences& s, const Batch& batch, Tensor d) {
  if (const Param* const prompt = virtual_tokens.embeddings; prompt && prompt->grad) {
    for (size_t row = 0; !exec.dry() && row < batch.ids.size(); ++row) {
      if (batch.ids[row] >= 0) continue;
      add_rows(exec, d.f32() + static_cast<int64_t>(row) * d.cols(), d.cols(), 1,
               prompt->grad.f32() + (-1 - batch.ids[row]) * d.cols(), d.cols(), 1, d.cols());
    }
  }
  if (embedding->grad && virtual_tokens.count > 0)
    throw Error("[model] an embedding does not train beside virtual tokens");
  if (positions) embed_backward(exec, d, s.positions, positions->grad);
  if (token_types) embed_backward(exec, d, types_of(batch).data(), token_types->grad);
  if (!embedding->grad && embedding_changes.empty()) return;
  if (embedding_scale != 1) scale(exec, d, embedding_scale);
  for (const EmbeddingChange& change : embedding_changes)
    embedding_change_backward(exec, change, batch.ids, d);
  embed_backward(exec, d, batch.ids.data(), embedding->grad);
}

void Transformer::Impl::place(Exec& exec, Sequences& s, std::span<const int64_t> lengths) const {
  const int64_t first_length = s.starts[1];
  bool alike = s.past.empty();  // the sequences have the same positions
  for (size_t b = 1; b < lengths.size(); ++b) alike = alike && s.starts[b + 1] - s.starts[b] == first_length;
  const auto rotation = [&](const RopeSettings& settings) {
    const int64_t dim = config.rotary_dim();
    const Tensor table = exec.scratch.take({alike ? first_length : s.rows(), dim});
    for (size_t b = 0; !exec.dry() && b < (alike ? 1 : lengths.size()); ++b) {
      const int64_t start = s.starts[b];
      rope_table(exec, settings, s.positions + start, lengths[b],
                 {table.f32() + start * dim, {s.starts[b + 1] - start, dim}});
    }
    return table;
  };
  if (row.positions == Positions::rope) {
    RopeSettings settings = config.rope_scaling;
    settings.theta = config.rope_theta;
    s.rope[0] = rotation(settings);
    if (has_local_rope(config)) s.rope[1] = rotation({.theta = config.local_rope_theta});
  } else if (row.positions != Positions::learned) {
    // Falcon scales the bias like the scores.
    const bool falcon = row.positions == Positions::alibi_bf16;
    s.alibi =
        exec.scratch.take({config.num_attention_heads, *std::max_element(lengths.begin(), lengths.end())});
    alibi_table(exec, falcon ? blocks[0].rules.scale : 1.0f, falcon, s.alibi);
  }
}

Transformer::Transformer(ModelConfig config)
    : impl_(std::make_unique<Impl>(std::move(config), nullptr, LoadOptions{})) {}
Transformer::Transformer(std::shared_ptr<const ModelSource> source, const LoadOptions& options)
    : impl_(std::make_unique<Impl>(source->config(), source, options)) {}
Transformer::~Transformer() = default;
Transformer::Transformer(Transformer&&) noexcept = default;

const ModelConfig& Transformer::config() const { return impl_->config; }
ParamStore& Transformer::params() { return impl_->store; }
const ParamStore& Transformer::params() const { return impl_->store; }
const QuantizedWeights& Transformer::quantized() const { return impl_->quantized; }
void Transformer::observe(std::function<void(const char*, int64_t, Tensor)> observer) {
  impl_->observer = std::move(observer);
}

void Transformer::initialize(uint64_t seed) {
  uint64_t stream = 0;
  for (Param& p : impl_->store.list()) {
    Rng rng = Rng(seed).split(stream++);
    if (p.value.shape.rank == 1) {
      array(p.value).setConstant(static_cast<float>(p.initial));
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
