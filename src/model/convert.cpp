#include "llmtool/model/convert.h"

#include <cmath>
#include <cstring>
#include <map>

#include "llmtool/core/error.h"
#include "llmtool/io/safetensors.h"
#include "llmtool/kernels/convert.h"
#include "llmtool/model/transformer.h"
#include "model/gguf_names.h"

namespace llmtool {

namespace {
namespace fs = std::filesystem;

int64_t largest(const ParamStore& params) {
  int64_t n = 0;
  for (const Param& p : params.list()) n = std::max(n, p.value.size());
  return n;
}

/// What would change the model on its way into llama.cpp's hands.
void check_gguf(const ModelConfig& c, const Architecture& row) {
  const auto refuse = [](const std::string& what) {
    throw UsageError("llama.cpp has no such model: " + what);
  };
  if (!c.generates())
    throw UsageError(cat("GGUF: expected a decoder with a language model's head, found ", class_of(c)));
  if (*row.names.experts.router) throw UsageError("GGUF: models with experts cannot be written yet");
  ModelConfig usual = ModelConfig::of_family(c.model_type);
  if (c.hidden_act != usual.hidden_act) refuse(cat(c.model_type, " with ", c.hidden_act));
  const bool plain = row.model_type == std::string("qwen3") || row.model_type == std::string("olmo2") ||
                     row.norm_offset != 0;
  if (plain && c.attention_bias) refuse(c.model_type + " with attention_bias");
  if (row.positions == Positions::alibi_bf16) refuse("falcon with ALiBi");
  if (c.model_type == "falcon" && !on(row.parallel, c)) refuse("falcon with its parts one after another");
  if (row.windows == Windows::later) {
    for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
      if (c.window_of(layer)) refuse(c.model_type + " with a sliding window");
    }
  }
  if (row.windows == Windows::alternating) {
    for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
      const bool window = (layer + 1) % usual.sliding_window_pattern != 0;
      if (c.sliding_window && (c.window_of(layer) != 0) != window)
        refuse(c.model_type + " with another layer_types");
    }
    const int64_t expected = gguf_score_scalar(c);
    if (c.query_pre_attn_scalar != expected)
      refuse(cat(c.model_type, " with query_pre_attn_scalar ", c.query_pre_attn_scalar, " instead of ",
                 expected));
    if (has_local_rope(c) && c.local_rope_theta != 10000)
      refuse("gemma3 with a local theta other than 10000");
  }
  const RopeSettings& s = c.rope_scaling;
  if (s.scaling == RopeScaling::dynamic) refuse("dynamic rotary scaling");
  if (s.scaling == RopeScaling::longrope) refuse("longrope as transformers runs it, by the text's length");
  if (s.scaling == RopeScaling::yarn) {
    if (std::abs(s.attention_factor - yarn_magnitude(s.factor)) > 1e-6 || s.beta_fast != 32 ||
        s.beta_slow != 1 || !s.truncate)
      refuse("yarn with other than its usual settings");
  }
}

std::vector<GgufEntry> gguf_metadata(const ModelConfig& c, const Architecture& row, const std::string& name,
                                     DType dtype) {
  const GgufFamily& family = *gguf_family_of(c.model_type);
  std::vector<GgufEntry> list = {{"general.architecture", std::string(family.name)}, {"general.name", name}};
  const std::map<DType, uint32_t> kinds = {
      {DType::f32, 0}, {DType::f16, 1}, {DType::q4_0, 2}, {DType::q8_0, 7}, {DType::bf16, 32}};
  list.push_back({"general.file_type", kinds.at(dtype)});
  const auto add = [&](const char* key, GgufEntry::Value value) {
    list.push_back({cat(family.name, ".", key), std::move(value)});
  };
  const auto integer = [&](const char* key, int64_t value) { add(key, static_cast<uint32_t>(value)); };
  const auto number = [&](const char* key, double value) { add(key, static_cast<float>(value)); };
  // llama.cpp knows no window in these families: within it, there is no difference.
  const bool window_lost = row.windows == Windows::all && c.sliding_window > 0;
  integer("context_length",
          window_lost ? std::min(c.context(), c.sliding_window) : c.max_position_embeddings);
  integer("embedding_length", c.hidden_size);
  integer("block_count", c.num_hidden_layers);
  integer("feed_forward_length", c.intermediate_size);
  integer("attention.head_count", c.num_attention_heads);
  integer("attention.head_count_kv", c.kv_heads());
  integer("attention.key_length", c.head_dim);
  integer("attention.value_length", c.head_dim);
  integer("vocab_size", c.vocab_size);
  number(row.norm == NormKind::rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon",
         c.norm_eps);
  if (row.positions == Positions::rope) {
    integer("rope.dimension_count", c.rotary_dim());
    number("rope.freq_base", c.rope_theta);
    const RopeSettings& s = c.rope_scaling;
    if (s.scaling == RopeScaling::linear || s.scaling == RopeScaling::yarn) {
      add("rope.scaling.type", std::string(s.scaling == RopeScaling::linear ? "linear" : "yarn"));
      number("rope.scaling.factor", s.factor);
      if (s.scaling == RopeScaling::yarn)
        integer("rope.scaling.original_context_length", static_cast<int64_t>(s.original_positions));
    }
  }
  if (row.windows != Windows::none && row.windows != Windows::later && !window_lost && c.sliding_window > 0)
    integer("attention.sliding_window", c.sliding_window);
  if (c.attn_logit_softcapping > 0) number("attn_logit_softcapping", c.attn_logit_softcapping);
  if (c.final_logit_softcapping > 0) number("final_logit_softcapping", c.final_logit_softcapping);
  if (c.model_type == "gpt_neox") add("use_parallel_residual", c.parallel_residual);
  return list;
}

/// A tensor of the file: a parameter, or the factors of rotary frequencies.
struct Output {
  GgufTensor tensor;
  const Param* param;
};

DType stored_as(const Param& p, const std::string& name, DType dtype) {
  if (p.value.shape.rank == 1 || name == "position_embd.weight") return DType::f32;
  if (dtype == DType::q4_0 && (name == "token_embd.weight" || name == "output.weight")) dtype = DType::q8_0;
  return p.value.cols() % dtype_block(dtype).elements == 0 ? dtype : DType::f16;
}

std::vector<Output> outputs(const Transformer& model, const Architecture& row, DType dtype) {
  const ModelConfig& c = model.config();
  std::vector<Output> list;
  const Param* embedding = nullptr;
  for (const Param& p : model.params().list()) {
    const std::string name = gguf_name(row, p.name);
    if (name == "token_embd.weight") embedding = &p;
    list.push_back({{name, p.value.shape, stored_as(p, name, dtype)}, &p});
  }
  const bool wants_head = c.model_type == "gpt_neox" || c.model_type == "stablelm" || c.model_type == "olmo2";
  if (c.tie_word_embeddings && wants_head) {
    list.push_back({{"output.weight", embedding->value.shape, stored_as(*embedding, "output.weight", dtype)},
                    embedding});
  }
  const RopeScaling scaling = c.rope_scaling.scaling;
  if (scaling == RopeScaling::llama3 || scaling == RopeScaling::factors)
    list.push_back({{"rope_freqs.weight", {c.rotary_dim() / 2}, DType::f32}, nullptr});
  return list;
}

/// By what each rotary frequency is divided.
std::vector<float> frequency_factors(const ModelConfig& c) {
  RopeSettings scaled = c.rope_scaling;
  scaled.theta = c.rope_theta;
  const std::vector<float> with = rope_frequencies(scaled, c.rotary_dim(), 1),
                           without = rope_frequencies({.theta = c.rope_theta}, c.rotary_dim(), 1);
  std::vector<float> factors(with.size());
  for (size_t i = 0; i < with.size(); ++i) factors[i] = without[i] / with[i];
  return factors;
}

/// Values as the file has them: rows in its order, norms with what the family adds.
void to_file_order(const ModelConfig& c, const Param& p, std::vector<float>& values,
                   std::vector<float>& spare) {
  const GgufFamily& family = *gguf_family_of(c.model_type);
  if (family.norms_shifted && p.value.shape.rank == 1) {
    for (int64_t i = 0; i < p.value.size(); ++i) values[static_cast<size_t>(i)] += 1;
  }
  const std::vector<int64_t> rows = family.pairs_adjacent ? adjacent_rows(c, p.name) : std::vector<int64_t>();
  if (rows.empty()) return;
  const size_t cols = static_cast<size_t>(p.value.size()) / rows.size();
  spare = values;
  for (size_t r = 0; r < rows.size(); ++r) {
    std::copy_n(spare.begin() + static_cast<std::ptrdiff_t>(r * cols), cols,
                values.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(rows[r]) * cols));
  }
}
}  // namespace

DType usual_dtype(const ModelSource& source) {
  const Transformer model(source.config());
  std::map<DType, int64_t> counts;
  for (const Param& p : model.params().list()) {
    if (const Tensor t = source.find(p).tensor) counts[t.dtype] += t.size();
  }
  DType most = DType::f32;
  for (const auto& [dtype, n] : counts) {
    if (n > counts[most]) most = dtype;
  }
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
  const auto all = static_cast<int64_t>(model.params().list().size());
  int64_t done = 0;
  std::vector<NamedTensor> tensors;
  for (const Param& p : model.params().list()) {
    tensors.push_back({p.name, p.value, dtype, p.transpose, p.file_rows, [&, param = &p] {
                         source.read(*param, values.data());
                         progress(++done, all);
                         return Tensor(values.data(), param->value.shape);
                       }});
  }
  write_safetensors(folder / "model.safetensors", tensors, {{"format", "pt"}});
  source.check_all_used(model.params());
  save_model_config(c, folder, dtype);
}

void convert_to_gguf(const ModelSource& source, const fs::path& file, DType dtype,
                     const std::vector<GgufEntry>& vocabulary, const ConvertProgress& progress) {
  const ModelConfig& c = source.config();
  const Architecture& row = architecture(c);
  check_gguf(c, row);
  const Transformer model(c);  // its memory is not touched
  source.check_all_used(model.params());
  std::vector<GgufEntry> metadata = gguf_metadata(c, row, source.path().stem().string(), dtype);
  metadata.insert(metadata.end(), vocabulary.begin(), vocabulary.end());
  if (vocabulary.empty()) metadata.push_back({"tokenizer.ggml.model", std::string("none")});
  const std::vector<Output> list = outputs(model, row, dtype);
  std::vector<GgufTensor> tensors;
  for (const Output& o : list) tensors.push_back(o.tensor);
  GgufWriter writer(file, metadata, tensors);
  std::vector<float> values, spare;
  int64_t done = 0;
  for (const Output& o : list) {
    if (o.param) {
      values.resize(static_cast<size_t>(o.param->value.size()));
      source.read(*o.param, values.data());
      to_file_order(c, *o.param, values, spare);
    } else {
      values = frequency_factors(c);
    }
    writer.write(Tensor(values.data(), o.tensor.shape), from_f32);
    progress(++done, static_cast<int64_t>(list.size()));
  }
  writer.commit();
}

}  // namespace llmtool
