#include "model/gguf_names.h"

#include <algorithm>
#include <set>

#include "llmtool/core/error.h"

namespace llmtool {

namespace {
constexpr GgufFamily kFamilies[] = {
    {"llama", "llama", true, false},         {"llama", "mistral", true, false},
    {"llama", "mixtral", true, false},       {"qwen2", "qwen2", false, false},
    {"qwen3", "qwen3", false, false},        {"qwen2moe", "qwen2_moe", false, false, false},
    {"qwen3moe", "qwen3_moe", false, false}, {"gemma", "gemma", false, true},
    {"gemma2", "gemma2", false, true},       {"gemma3", "gemma3_text", false, true},
    {"phi3", "phi3", false, false},          {"stablelm", "stablelm", false, false},
    {"gptneox", "gpt_neox", false, false},   {"gpt2", "gpt2", false, false},
    {"bloom", "bloom", false, false},        {"falcon", "falcon", false, false},
    {"olmo2", "olmo2", false, false},        {"bert", "bert", false, false}};

using Names = std::vector<std::pair<std::string, const char*>>;

/// Our names and llama.cpp's of what a model has once.
Names model_parts(const WeightNames& n) {
  return {{n.embedding, "token_embd"},    {n.positions, "position_embd"},
          {n.token_types, "token_types"}, {n.embedding_norm, "token_embd_norm"},
          {n.final_norm, "output_norm"},  {n.head, "output"}};
}

/// Of what a layer has once.
Names layer_parts(const WeightNames& n) {
  // Falcon 40B's first norm is the feed-forward part's.
  const bool two_of_x = std::string(n.mlp_norm) == "ln_mlp";
  Names list = {{n.attention_norm, two_of_x ? "attn_norm_2" : "attn_norm"},
                {n.attention_out_norm, "post_attention_norm"},
                {n.after_attention_norm, "attn_output_norm"},
                {n.mlp_norm, two_of_x ? "attn_norm" : "ffn_norm"},
                {n.mlp_out_norm, "post_ffw_norm"},
                {n.after_mlp_norm, "layer_output_norm"},
                {n.q_norm, "attn_q_norm"},
                {n.k_norm, "attn_k_norm"},
                {n.out, "attn_output"},
                {n.down, "ffn_down"},
                {n.experts.router, "ffn_gate_inp"},
                {n.experts.shared_gate, "ffn_gate_inp_shexp"},
                {n.experts.shared_down, "ffn_down_shexp"}};
  constexpr const char* kQkv[] = {"attn_q", "attn_k", "attn_v"};
  for (size_t i = 0; i < n.qkv.size(); ++i)
    list.emplace_back(n.qkv[i], n.qkv.size() == 1 ? "attn_qkv" : kQkv[i]);
  for (size_t i = 0; i < n.up.size(); ++i)
    list.emplace_back(n.up[i], n.up.size() == 2 && i == 0 ? "ffn_gate" : "ffn_up");
  for (size_t i = 0; i < n.experts.shared_up.size(); ++i)
    list.emplace_back(n.experts.shared_up[i], i == 0 ? "ffn_gate_shexp" : "ffn_up_shexp");
  return list;
}

/// Of what each expert has.
Names expert_parts(const ExpertNames& n) {
  Names list = {{n.down, "ffn_down_exps"}};
  for (size_t i = 0; i < n.up.size(); ++i)
    list.emplace_back(n.up[i], i == 0 ? "ffn_gate_exps" : "ffn_up_exps");
  return list;
}

/// Takes "<number>." off the front.
int64_t take_number(std::string& name) {
  const size_t end = name.find('.');
  const int64_t number = std::stoll(name.substr(0, end));
  name = name.substr(end + 1);
  return number;
}
}  // namespace

const GgufFamily* gguf_family_named(const std::string& name, bool experts) {
  for (const GgufFamily& family : kFamilies) {
    const bool has_experts = *architecture(family.model_type).names.experts.router != '\0';
    if (name == family.name && has_experts == experts) return &family;
  }
  return nullptr;
}

const GgufFamily* gguf_family_of(const std::string& model_type) {
  for (const GgufFamily& family : kFamilies) {
    if (model_type == family.model_type) return &family;
  }
  return nullptr;
}

std::string gguf_families() {
  std::string names;
  std::set<std::string> listed;
  for (const GgufFamily& family : kFamilies) {
    if (listed.insert(family.name).second) names += (names.empty() ? "" : ", ") + std::string(family.name);
  }
  return names;
}

GgufPlace gguf_place(const Architecture& row, const std::string& parameter) {
  const std::string prefix = row.names.prefix, layers = prefix + row.names.layers;
  const std::string experts = row.names.experts.prefix;
  const size_t dot = parameter.rfind('.');
  const std::string kind = parameter.substr(dot);  // ".weight", ".bias"
  std::string part = parameter.substr(0, dot), block;
  GgufPlace place;
  Names names = model_parts(row.names);
  if (part.starts_with(layers)) {
    part = part.substr(layers.size());
    block = cat("blk.", take_number(part), ".");
    names = layer_parts(row.names);
    if (!experts.empty() && part.starts_with(experts)) {
      part = part.substr(experts.size());
      place.expert = take_number(part);
      names = expert_parts(row.names.experts);
    }
  } else if (part.starts_with(prefix)) {
    part = part.substr(prefix.size());
  }
  for (const auto& [ours, theirs] : names) {
    if (part != ours) continue;
    place.tensor = block + theirs + kind;
    return place;
  }
  throw Error(cat("[gguf] ", parameter, " has no name there"));
}

uint32_t gguf_pooling_type(Pooling pooling) {
  switch (pooling) {
    case Pooling::mean:
      return 1;
    case Pooling::first:
      return 2;
    case Pooling::last:
      return 3;
    case Pooling::pooler:
      break;
  }
  return 0;
}

int64_t gguf_score_scalar(const ModelConfig& c) {
  const bool large = (c.model_type == "gemma2" && c.num_hidden_layers == 46) ||
                     (c.model_type == "gemma3_text" && c.num_hidden_layers == 62);
  return large ? c.hidden_size / c.num_attention_heads : c.head_dim;
}

std::vector<int64_t> adjacent_pairs(int64_t heads, int64_t D) {
  std::vector<int64_t> rows;
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t half = 0; half < 2; ++half) {
      for (int64_t i = 0; i < D / 2; ++i) rows.push_back(head * D + 2 * i + half);
    }
  }
  return rows;
}

std::vector<int64_t> adjacent_rows(const ModelConfig& config, const std::string& parameter) {
  const std::vector<const char*>& qkv = architecture(config).names.qkv;
  const auto is = [&](const char* name) { return parameter.find(cat(".", name, ".")) != std::string::npos; };
  if (is(qkv[0])) return adjacent_pairs(config.num_attention_heads, config.head_dim);
  if (is(qkv[1])) return adjacent_pairs(config.kv_heads(), config.head_dim);
  return {};
}

void to_gguf_rows(const ModelConfig& config, const std::string& parameter, std::span<float> values) {
  const bool moves = gguf_family_of(config.model_type)->pairs_adjacent;
  const std::vector<int64_t> rows = moves ? adjacent_rows(config, parameter) : std::vector<int64_t>();
  if (rows.empty()) return;
  const size_t cols = values.size() / rows.size();
  const std::vector<float> ours(values.begin(), values.end());
  for (size_t r = 0; r < rows.size(); ++r)
    std::copy_n(ours.data() + r * cols, cols, values.data() + static_cast<size_t>(rows[r]) * cols);
}

}  // namespace llmtool
