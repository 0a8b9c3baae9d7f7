#include "model/gguf_source.h"

#include <cmath>
#include <cstring>
#include <set>

#include "llmtool/core/error.h"
#include "model/gguf_names.h"
#include "model/rope_factors.h"

namespace llmtool {

namespace {
constexpr int64_t kMax = int64_t{1} << 24;

bool has_tensor(const GgufFile& file, const std::string& name) { return file.tensors().contains(name); }

/// The metadata of one architecture: "llama.block_count" and so on.
class Keys {
 public:
  Keys(const GgufFile& file, std::string family) : m_(file.metadata()), prefix_(std::move(family) + ".") {}
  int64_t integer(const char* key) const { return m_.integer(prefix_ + key, 1, kMax); }
  int64_t integer(const char* key, int64_t fallback) const {
    return m_.integer(prefix_ + key, 0, kMax, fallback);
  }
  double number(const char* key, double fallback) const { return m_.number(prefix_ + key, fallback); }
  bool boolean(const char* key, bool fallback) const { return m_.boolean(prefix_ + key, fallback); }
  bool has(const char* key) const { return m_.has(prefix_ + key); }
  [[noreturn]] void refuse(const char* key, const std::string& what) const {
    throw Error(cat(m_.origin(), ": ", prefix_, key, ": ", what));
  }
  std::string string(const char* key, const char* fallback) const {
    return m_.string(prefix_ + key, fallback);
  }

 private:
  const GgufMetadata& m_;
  std::string prefix_;
};

void read_rope(const GgufFile& file, const Keys& k, ModelConfig& c) {
  c.rope_theta = k.number("rope.freq_base", 10000);
  if (!(c.rope_theta >= 1)) k.refuse("rope.freq_base", cat("expected at least 1, found ", c.rope_theta));
  const int64_t rotated = k.integer("rope.dimension_count", c.head_dim);
  if (rotated < 1 || rotated > c.head_dim)
    k.refuse("rope.dimension_count", cat("expected 1 to ", c.head_dim, ", found ", rotated));
  c.partial_rotary_factor = static_cast<double>(rotated) / static_cast<double>(c.head_dim);
  RopeSettings& s = c.rope_scaling;
  const std::string type = k.string("rope.scaling.type", k.has("rope.scale_linear") ? "linear" : "none");
  if (type != "none") {
    if (type != "linear" && type != "yarn")
      k.refuse("rope.scaling.type", cat("\"", type, "\" is not supported"));
    s.scaling = type == "linear" ? RopeScaling::linear : RopeScaling::yarn;
    s.factor = k.number("rope.scaling.factor", k.number("rope.scale_linear", 1));
    if (!(s.factor > 0)) k.refuse("rope.scaling.factor", cat("expected above 0, found ", s.factor));
    s.original_positions =
        static_cast<double>(k.integer("rope.scaling.original_context_length", c.max_position_embeddings));
    if (s.scaling == RopeScaling::yarn) s.attention_factor = yarn_magnitude(s.factor);
  }
  const auto factors = file.tensors().find("rope_freqs.weight");
  if (factors == file.tensors().end()) return;
  const Tensor t = factors->second;
  if (t.dtype != DType::f32 || t.size() != c.rotary_dim() / 2 || s.scaling != RopeScaling::none) {
    throw Error(cat(file.metadata().origin(), ": rope_freqs.weight: expected ", c.rotary_dim() / 2,
                    " f32 factors and no other scaling, found ", t.shape.text(), " of ",
                    dtype_name(t.dtype)));
  }
  s.scaling = RopeScaling::factors;
  s.factors.resize(static_cast<size_t>(t.size()));
  std::memcpy(s.factors.data(), t.data, t.bytes());
  const auto original = static_cast<double>(k.integer("rope.scaling.original_context_length", 0));
  if (const auto settings = settings_of_factors(s.factors, c.rope_theta, original)) s = *settings;
}

/// What GGUF says by the tensors that are there.
void read_layout(const GgufFile& file, const Keys& k, ModelConfig& c) {
  c.tie_word_embeddings = !has_tensor(file, "output.weight");
  c.attention_bias = has_tensor(file, "blk.0.attn_q.bias") || has_tensor(file, "blk.0.attn_qkv.bias");
  c.mlp_bias = has_tensor(file, "blk.0.ffn_up.bias");
  c.parallel_residual = k.boolean("use_parallel_residual", c.parallel_residual);
  if (c.model_type == "stablelm") c.parallel_residual = !has_tensor(file, "blk.0.ffn_norm.weight");
  if (c.model_type == "falcon") {
    const bool two_norms = has_tensor(file, "blk.0.attn_norm_2.weight");
    c.multi_query = c.num_key_value_heads == 1;
    c.new_decoder_architecture = two_norms || !c.multi_query;
    c.num_ln_in_parallel_attn = two_norms ? 2 : 1;
  }
}

void read_ids(const GgufMetadata& m, ModelConfig& c) {
  const auto id = [&](const char* key) -> std::optional<int64_t> {
    const int64_t value = m.integer(std::string("tokenizer.ggml.") + key, -1, int64_t{0xFFFFFFFF}, -1);
    return value < 0 || value >= c.vocab_size ? std::nullopt : std::optional(value);
  };
  c.bos_token_id = id("bos_token_id");
  c.eos_token_id = id("eos_token_id");
  c.pad_token_id = id("padding_token_id");
  for (const char* stop : {"eos_token_id", "eot_token_id"}) {
    const auto value = id(stop);
    if (value && std::find(c.stop_ids.begin(), c.stop_ids.end(), *value) == c.stop_ids.end())
      c.stop_ids.push_back(*value);
  }
}

const GgufFamily& read_family(const GgufMetadata& m, const std::string& name) {
  const GgufFamily* const dense = gguf_family_named(name, false);
  const GgufFamily* const sparse = gguf_family_named(name, true);
  if (!dense && !sparse)
    throw Error(cat(m.origin(), ": general.architecture: expected one of ", gguf_families(), ", found \"",
                    name, "\""));
  const std::string key = name + ".expert_count";
  const int64_t experts = m.integer(key, 0, kMax, 0);
  const GgufFamily* const family = experts > 0 ? sparse : dense;
  if (!family)
    throw Error(
        cat(m.origin(), ": ", key, ": expected ", dense ? "none" : "at least 1", ", found ", experts));
  return *family;
}

const Tensor& read_embedding(const GgufFile& file) {
  constexpr const char* kName = "token_embd.weight";
  const auto found = file.tensors().find(kName);
  if (found != file.tensors().end()) return found->second;
  const std::string why = file.header_only() ? "the file ends at its header"
                          : file.unreadable().contains(kName)
                              ? "tensors of type " + file.unreadable().at(kName) + " cannot be read"
                              : "not among the file's tensors";
  throw Error(cat(file.metadata().origin(), ": ", kName, ": ", why));
}

void read_experts(const Keys& k, const GgufFamily& family, ModelConfig& c) {
  c.num_experts = k.integer("expert_count");
  c.num_experts_per_tok = k.integer("expert_used_count");
  c.norm_topk_prob = family.experts_normalized;
  if (const double scale = k.number("expert_weights_scale", 1); scale != 1 && scale != 0)
    k.refuse("expert_weights_scale", cat("expected 1, found ", scale));
  // As llama.cpp takes them where the file does not say; "llama" knows no key for the first.
  c.moe_intermediate_size = c.intermediate_size;
  if (c.model_type != "mixtral") {
    c.moe_intermediate_size = k.integer("expert_feed_forward_length",
                                        std::max<int64_t>(c.intermediate_size / c.num_experts_per_tok, 1));
  }
  c.shared_expert_intermediate_size = k.integer("expert_shared_feed_forward_length", c.intermediate_size);
}

/// A file has no head of an encoder, and no pooler.
void read_encoder(const GgufFile& file, ModelConfig& c) {
  c.head = HeadKind::none;
  const auto types = file.tensors().find("token_types.weight");
  if (types != file.tensors().end()) c.type_vocab_size = types->second.rows();
}

ModelConfig read_config(const GgufFile& file) {
  const GgufMetadata& m = file.metadata();
  const std::string name = m.string("general.architecture");
  const GgufFamily& family = read_family(m, name);
  const Keys k(file, name);
  ModelConfig c = ModelConfig::of_family(family.model_type);
  c.vocab_size = read_embedding(file).rows();
  c.hidden_size = k.integer("embedding_length");
  c.num_hidden_layers = k.integer("block_count");
  if (c.num_hidden_layers > static_cast<int64_t>(file.tensors().size() + file.unreadable().size())) {
    k.refuse("block_count", cat("expected at most a layer for each of ", file.tensors().size(),
                                " tensors, found ", c.num_hidden_layers));
  }
  c.intermediate_size = k.integer("feed_forward_length");
  c.num_attention_heads = k.integer("attention.head_count");
  c.num_key_value_heads = k.integer("attention.head_count_kv", c.num_attention_heads);
  c.head_dim = k.integer("attention.key_length", c.hidden_size / c.num_attention_heads);
  if (const int64_t values = k.integer("attention.value_length", c.head_dim); values != c.head_dim)
    k.refuse("attention.value_length", cat("expected that of keys, ", c.head_dim, ", found ", values));
  c.max_position_embeddings = k.integer("context_length");
  c.norm_eps = k.number("attention.layer_norm_rms_epsilon", k.number("attention.layer_norm_epsilon", 1e-5));
  c.sliding_window = k.integer("attention.sliding_window", 0);
  c.attn_logit_softcapping = k.number("attn_logit_softcapping", 0);
  c.final_logit_softcapping = k.number("final_logit_softcapping", 0);
  c.query_pre_attn_scalar = gguf_score_scalar(c);
  read_layout(file, k, c);
  const Architecture& row = architecture(c);
  if (*row.names.experts.router) read_experts(k, family, c);
  if (!row.causal) read_encoder(file, c);
  if (k.boolean("attention.causal", true) != row.causal)
    k.refuse("attention.causal", row.causal ? "expected true" : "expected false");
  if (row.positions == Positions::rope) read_rope(file, k, c);
  read_ids(m, c);
  try {
    c.resolve();
  } catch (const Error& e) {
    throw Error(cat(m.origin(), ": ", e.what()));
  }
  return c;
}
}  // namespace

GgufSource::GgufSource(const std::filesystem::path& path) : GgufSource(GgufFile(path), path) {}
GgufSource::GgufSource(GgufFile file, const std::filesystem::path& path)
    : ModelSource(path, read_config(file)), file_(std::move(file)) {}

/// One expert's matrix of the tensor of all.
Tensor GgufSource::expert_of(const std::string& name, const Tensor& all, int64_t expert) const {
  if (all.shape.rank != 3 || all.shape[0] != config_.num_experts) {
    throw Error(cat(path_.string(), ": ", name, ": expected the matrices of ", config_.num_experts,
                    " experts, found ", all.shape.text()));
  }
  const Shape shape = {all.shape[1], all.shape[2]};
  return {static_cast<std::byte*>(all.data) + dtype_bytes(all.dtype, expert * shape.size()), all.dtype,
          shape};
}

StoredParam GgufSource::find(const Param& p) const {
  const Architecture& row = architecture(config_);
  const GgufFamily& family = *gguf_family_of(config_.model_type);
  const GgufPlace place = gguf_place(row, p.name);
  StoredParam stored;
  stored.name = place.tensor;
  if (const auto it = file_.unreadable().find(stored.name); it != file_.unreadable().end())
    refuse_type(stored.name, it->second);
  if (const auto it = file_.tensors().find(stored.name); it != file_.tensors().end()) {
    stored.tensor = place.expert < 0 ? it->second : expert_of(stored.name, it->second, place.expert);
    // A matrix of one row is a vector there.
    if (stored.tensor.shape.rank == 1 && p.value.shape == Shape{1, stored.tensor.size()})
      stored.tensor.shape = p.value.shape;
  }
  if (family.pairs_adjacent) stored.rows = adjacent_rows(config_, p.name);
  if (family.norms_shifted && p.value.shape.rank == 1 && p.name.find("norm") != std::string::npos)
    stored.shift = -1;
  return stored;
}

EmbeddingSettings GgufSource::embedding() const {
  const std::string name = file_.metadata().string("general.architecture");
  const Keys k(file_, name);
  const int64_t type = k.integer("pooling_type", 0);
  EmbeddingSettings settings;
  settings.normalize = k.boolean("normalize_embeddings", false);
  if (type == 0) return settings;
  for (const Pooling pooling : {Pooling::mean, Pooling::first, Pooling::last}) {
    if (gguf_pooling_type(pooling) == type) settings.pooling = pooling;
  }
  if (!settings.pooling)
    k.refuse("pooling_type", cat("expected 0 to 3, found ", type, "; --pooling of embed chooses"));
  return settings;
}

void GgufSource::check_all_used(const ParamStore& params) const {
  std::set<std::string> used = {"rope_freqs.weight"};
  for (const Param& p : params.list()) used.insert(find(p).name);
  const auto refuse = [&](const std::string& name) {
    throw Error(cat(path_.string(), ": ", name, ": a model of this architecture has no such tensor"));
  };
  for (const auto& [name, tensor] : file_.tensors()) {
    if (!used.contains(name)) refuse(name);
  }
  for (const auto& [name, type] : file_.unreadable()) refuse(name);
}

}  // namespace llmtool
