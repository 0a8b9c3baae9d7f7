#include "llmtool/model/convert.h"

#include <cmath>
#include <cstring>
#include <map>

#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/kernels/convert.h"
#include "llmtool/model/describe.h"
#include "llmtool/model/transformer.h"
#include "model/folder_tensors.h"
#include "model/gguf_names.h"
#include "model/rope_factors.h"

namespace llmtool {

namespace {
namespace fs = std::filesystem;

int64_t largest(const ParamStore& params) {
  int64_t n = 0;
  for (const Param& p : params.list()) n = std::max(n, p.value.size());
  return n;
}

[[noreturn]] void refuse(const std::string& what) {
  throw UsageError("llama.cpp has no such model: " + what);
}

bool has_window(const ModelConfig& c) {
  bool found = false;
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) found = found || c.window_of(layer) > 0;
  return found;
}

/// Windows, as llama.cpp's families have them.
void check_windows(const ModelConfig& c, const Architecture& row) {
  if ((row.windows == Windows::later || row.windows == Windows::earlier) && has_window(c))
    refuse(c.model_type + " with a sliding window");
  if (row.windows != Windows::alternating) return;
  const ModelConfig usual = ModelConfig::of_family(c.model_type);
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
    const bool window = (layer + 1) % usual.sliding_window_pattern != 0;
    if (c.sliding_window && (c.window_of(layer) != 0) != window)
      refuse(c.model_type + " with another layer_types");
  }
  const int64_t expected = gguf_score_scalar(c);
  if (c.query_pre_attn_scalar != expected)
    refuse(
        cat(c.model_type, " with query_pre_attn_scalar ", c.query_pre_attn_scalar, " instead of ", expected));
  if (has_local_rope(c) && c.local_rope_theta != 10000) refuse("gemma3 with a local theta other than 10000");
}

void check_scaling(const RopeSettings& s) {
  if (s.scaling == RopeScaling::dynamic) refuse("dynamic rotary scaling");
  if (s.scaling == RopeScaling::longrope) refuse("longrope as transformers runs it, by the text's length");
  if (s.scaling == RopeScaling::yarn) {
    if (std::abs(s.attention_factor - yarn_magnitude(s.factor)) > 1e-6 || s.beta_fast != 32 ||
        s.beta_slow != 1 || !s.truncate)
      refuse("yarn with other than its usual settings");
  }
}

void check_experts(const ModelConfig& c) {
  const bool normalized = gguf_family_of(c.model_type)->experts_normalized;
  if (c.norm_topk_prob != normalized)
    refuse(cat(c.model_type, " with norm_topk_prob ", c.norm_topk_prob ? "true" : "false"));
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
    if (!c.has_experts(layer)) refuse(cat(c.model_type, " with a layer without experts (", layer, ")"));
  }
}

/// Metadata behind the name of the architecture.
class Keys {
 public:
  Keys(std::vector<GgufEntry>& list, std::string family) : list_(list), prefix_(std::move(family) + ".") {}
  void add(const char* key, GgufEntry::Value value) const {
    list_.push_back({prefix_ + key, std::move(value)});
  }
  void integer(const char* key, int64_t value) const { add(key, static_cast<uint32_t>(value)); }
  void number(const char* key, double value) const { add(key, static_cast<float>(value)); }

 private:
  std::vector<GgufEntry>& list_;
  std::string prefix_;
};

void add_rope(const Keys& k, const ModelConfig& c) {
  k.integer("rope.dimension_count", c.rotary_dim());
  k.number("rope.freq_base", c.rope_theta);
  const RopeSettings& s = c.rope_scaling;
  if (s.scaling == RopeScaling::yarn || s.scaling == RopeScaling::llama3)
    k.integer("rope.scaling.original_context_length", static_cast<int64_t>(s.original_positions));
  if (s.scaling != RopeScaling::linear && s.scaling != RopeScaling::yarn) return;
  k.add("rope.scaling.type", std::string(s.scaling == RopeScaling::linear ? "linear" : "yarn"));
  k.number("rope.scaling.factor", s.factor);
}

void add_experts(const Keys& k, const ModelConfig& c, const ExpertNames& names) {
  k.integer("expert_count", c.num_experts);
  k.integer("expert_used_count", c.num_experts_per_tok);
  if (c.model_type != "mixtral") k.integer("expert_feed_forward_length", c.moe_intermediate_size);
  if (!names.shared_up.empty())
    k.integer("expert_shared_feed_forward_length", c.shared_expert_intermediate_size);
}

void add_embedding(const Keys& k, const EmbeddingSettings& settings) {
  if (settings.pooling) k.integer("pooling_type", gguf_pooling_type(*settings.pooling));
  if (settings.normalize) k.add("normalize_embeddings", true);  // Ollama's key
}

std::vector<GgufEntry> gguf_metadata(const ModelSource& source, const Architecture& row, DType dtype) {
  const ModelConfig& c = source.config();
  const GgufFamily& family = *gguf_family_of(c.model_type);
  const std::map<DType, uint32_t> kinds = {
      {DType::f32, 0}, {DType::f16, 1}, {DType::q4_0, 2}, {DType::q8_0, 7}, {DType::bf16, 32}};
  std::vector<GgufEntry> list = {{"general.architecture", std::string(family.name)},
                                 {"general.name", source.path().stem().string()},
                                 {"general.file_type", kinds.at(dtype)}};
  const Keys k(list, family.name);
  // llama.cpp knows no window in these families: within it, there is no difference.
  const bool window_lost = row.windows == Windows::all && has_window(c);
  if (window_lost && c.sliding_window < c.context()) {
    warn(cat("llama.cpp knows no window in ", c.model_type, ": the file's context ends at ", c.sliding_window,
             " of ", c.context(), " positions"));
  }
  k.integer("context_length",
            window_lost ? std::min(c.context(), c.sliding_window) : c.max_position_embeddings);
  k.integer("embedding_length", c.hidden_size);
  k.integer("block_count", c.num_hidden_layers);
  k.integer("feed_forward_length", c.intermediate_size);
  k.integer("attention.head_count", c.num_attention_heads);
  k.integer("attention.head_count_kv", c.kv_heads());
  k.integer("attention.key_length", c.head_dim);
  k.integer("attention.value_length", c.head_dim);
  k.integer("vocab_size", c.vocab_size);
  k.number(row.norm == NormKind::rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon",
           c.norm_eps);
  if (row.positions == Positions::rope) add_rope(k, c);
  if (*row.names.experts.router) add_experts(k, c, row.names.experts);
  if (!row.causal) k.add("attention.causal", false);
  if (c.type_vocab_size > 0)
    list.push_back({"tokenizer.ggml.token_type_count", static_cast<uint32_t>(c.type_vocab_size)});
  add_embedding(k, source.embedding());
  if (row.windows == Windows::alternating && c.sliding_window > 0)
    k.integer("attention.sliding_window", c.sliding_window);
  if (c.attn_logit_softcapping > 0) k.number("attn_logit_softcapping", c.attn_logit_softcapping);
  if (c.final_logit_softcapping > 0) k.number("final_logit_softcapping", c.final_logit_softcapping);
  if (c.model_type == "gpt_neox") k.add("use_parallel_residual", c.parallel_residual);
  return list;
}

/// A tensor of the file: a parameter, one of each expert, or (none) the factors of rotary frequencies.
struct Output {
  GgufTensor tensor;
  std::vector<const Param*> params;
};

DType stored_as(const Param& p, const std::string& name, DType dtype) {
  const bool plain = name == "position_embd.weight" || name == "token_types.weight" ||
                     name.find(".ffn_gate_inp") != std::string::npos;  // small, and not only factors
  if (p.value.shape.rank == 1 || plain) return DType::f32;
  if (dtype == DType::q4_0 && (name == "token_embd.weight" || name == "output.weight")) dtype = DType::q8_0;
  return p.value.cols() % dtype_block(dtype).elements == 0 ? dtype : DType::f16;
}

Output output_of(const Param& p, const GgufPlace& place, DType dtype, int64_t experts) {
  Shape shape = p.value.shape;
  if (place.expert >= 0) shape = {experts, shape[0], shape[1]};
  if (shape.rank == 2 && shape[0] == 1) shape = {shape[1]};
  return {{place.tensor, shape, stored_as(p, place.tensor, dtype)}, {&p}};
}

std::vector<Output> outputs(const Transformer& model, const Architecture& row, DType dtype) {
  const ModelConfig& c = model.config();
  std::vector<Output> list;
  std::map<std::string, size_t> of_experts;
  const Param* embedding = nullptr;
  for (const Param& p : model.params().list()) {
    if (c.pooler && p.name.starts_with(cat(row.names.prefix, row.names.pooler, "."))) continue;
    const GgufPlace place = gguf_place(row, p.name);
    if (place.tensor == "token_embd.weight") embedding = &p;
    const auto [it, first] = of_experts.emplace(place.tensor, list.size());
    if (first) {
      list.push_back(output_of(p, place, dtype, c.num_experts));
    } else {
      list[it->second].params.push_back(&p);  // in the experts' order, as the model has them
    }
  }
  const bool wants_head = c.model_type == "gpt_neox" || c.model_type == "stablelm" ||
                          c.model_type == "olmo2" || c.model_type == "qwen2_moe";
  if (c.tie_word_embeddings && c.generates() && wants_head)
    list.push_back(output_of(*embedding, {"output.weight"}, dtype, 0));
  const RopeScaling scaling = c.rope_scaling.scaling;
  if (scaling == RopeScaling::llama3 || scaling == RopeScaling::factors)
    list.push_back({{"rope_freqs.weight", {c.rotary_dim() / 2}, DType::f32}, {}});
  return list;
}

/// Values as the file has them: rows in its order, norms with what the family adds.
void to_file_order(const ModelConfig& c, const Param& p, std::vector<float>& values) {
  if (gguf_family_of(c.model_type)->norms_shifted && p.value.shape.rank == 1) {
    for (float& value : values) value += 1;
  }
  to_gguf_rows(c, p.name, values);
}
}  // namespace

void check_gguf(const ModelConfig& c) {
  const Architecture& row = architecture(c);
  if (row.causal && !c.generates())
    throw UsageError(cat("GGUF: expected a decoder with a language model's head, found ", class_of(c)));
  if (!row.causal && c.head != HeadKind::none)
    throw UsageError(cat("GGUF: expected ", row.class_stem, "Model, found ", class_of(c),
                         ", for whose head the format has no place"));
  const ModelConfig usual = ModelConfig::of_family(c.model_type);
  if (c.hidden_act != usual.hidden_act) refuse(cat(c.model_type, " with ", c.hidden_act));
  const bool plain = c.model_type == "qwen3" || c.model_type == "qwen3_moe" || c.model_type == "olmo2" ||
                     row.norm_offset != 0;
  if (plain && c.attention_bias) refuse(c.model_type + " with attention_bias");
  const bool no_head_dim = c.model_type == "qwen2" || c.model_type == "qwen2_moe";
  if (no_head_dim && c.num_attention_heads * c.head_dim != c.hidden_size)
    refuse(cat(c.model_type, " with head_dim ", c.head_dim));
  if (row.positions == Positions::alibi_bf16) refuse("falcon with ALiBi");
  if (c.model_type == "falcon" && !on(row.parallel, c)) refuse("falcon with its parts one after another");
  if (c.model_type == "falcon" && c.attention_bias) refuse("falcon with biases");
  if ((c.model_type == "gemma" || c.model_type == "gemma2") && !c.tie_word_embeddings)
    refuse(c.model_type + " with a head of its own");
  if (c.model_type == "gpt_neox" && !c.attention_bias) refuse("gpt_neox without attention_bias");
  check_windows(c, row);
  check_scaling(c.rope_scaling);
  if (*row.names.experts.router) check_experts(c);
}

DType usual_dtype(const ModelSource& source) {
  const DType most = describe_weights(source).dtype;
  return most == DType::f16 || most == DType::bf16 ? most : DType::f32;
}

void convert_to_folder(const ModelSource& source, const fs::path& folder, DType dtype,
                       const ConvertProgress& progress) {
  const ModelConfig& c = source.config();
  if (c.rope_scaling.scaling == RopeScaling::factors) {
    throw UsageError(
        cat(source.path().string(), ": rope_freqs.weight: config.json has no key for these factors"));
  }
  fs::create_directories(folder);
  const Transformer model(c);  // its memory is not touched
  std::vector<float> values(static_cast<size_t>(largest(model.params())));
  int64_t done = 0, all = 0;
  const std::function<Tensor(const Param&)> fetch = [&](const Param& p) {
    source.read(p, values.data());
    progress(++done, all);
    return Tensor(values.data(), p.value.shape);
  };
  const std::vector<NamedTensor> tensors = folder_tensors(model, dtype, fetch);
  all = static_cast<int64_t>(tensors.size());
  write_safetensors(folder / "model.safetensors", tensors, {{"format", "pt"}});
  source.check_all_used(model.params());
  save_model_config(c, folder, dtype);
}

namespace {
/// What ends an answer beside the vocabulary's EOS.
void add_end_of_turn(const ModelConfig& c, const std::vector<GgufEntry>& vocabulary,
                     std::vector<GgufEntry>& metadata) {
  const auto eos = std::find_if(vocabulary.begin(), vocabulary.end(),
                                [](const GgufEntry& e) { return e.key == "tokenizer.ggml.eos_token_id"; });
  if (eos == vocabulary.end() || !c.generates()) return;
  const uint32_t* const end = std::get_if<uint32_t>(&eos->value);
  for (const int64_t stop : c.stop_ids) {
    if (!end || stop == static_cast<int64_t>(*end)) continue;
    if (c.bos_token_id && stop == *c.bos_token_id) continue;
    metadata.push_back({"tokenizer.ggml.eot_token_id", static_cast<uint32_t>(stop)});
    return;
  }
}
}  // namespace

void convert_to_gguf(const ModelSource& source, const fs::path& file, DType dtype,
                     const std::vector<GgufEntry>& vocabulary, const ConvertProgress& progress) {
  const ModelConfig& c = source.config();
  const Architecture& row = architecture(c);
  check_gguf(c);
  const Transformer model(c);  // its memory is not touched
  source.check_all_used(model.params());
  std::vector<GgufEntry> metadata = gguf_metadata(source, row, dtype);
  metadata.insert(metadata.end(), vocabulary.begin(), vocabulary.end());
  add_end_of_turn(c, vocabulary, metadata);
  if (vocabulary.empty()) metadata.push_back({"tokenizer.ggml.model", std::string("none")});
  const std::vector<Output> list = outputs(model, row, dtype);
  std::vector<GgufTensor> tensors;
  for (const Output& o : list) tensors.push_back(o.tensor);
  if (file.has_parent_path()) fs::create_directories(file.parent_path());
  GgufWriter writer(file, metadata, tensors);
  std::vector<float> values;
  int64_t done = 0;
  for (const Output& o : list) {
    for (const Param* const p : o.params) {
      values.resize(static_cast<size_t>(p->value.size()));
      source.read(*p, values.data());
      to_file_order(c, *p, values);
      writer.write(Tensor(values.data(), o.tensor.shape.rank == 3 ? p->value.shape : o.tensor.shape),
                   from_f32);
    }
    if (o.params.empty()) {
      RopeSettings settings = c.rope_scaling;
      settings.theta = c.rope_theta;
      values = rope_factors(settings, c.rotary_dim());
      writer.write(Tensor(values.data(), o.tensor.shape), from_f32);
    }
    progress(++done, static_cast<int64_t>(list.size()));
  }
  writer.commit();
}

}  // namespace llmtool
