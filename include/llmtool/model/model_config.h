#pragma once
// ModelConfig: what config.json of a Hugging Face folder says, in one set of names for all families.

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "llmtool/io/config.h"
#include "llmtool/kernels/rope.h"

namespace llmtool {

/// What stands on top of the last layer.
enum class HeadKind { language_model, classification, none };

/// Canonical keys; the table of architectures maps each family's own spelling (n_embd, n_layer, ...) to them.
struct ModelConfig {
  std::string model_type = "llama";
  int64_t vocab_size = 0;           // V; 0 in a training config: the tokenizer's
  int64_t hidden_size = 256;        // C
  int64_t intermediate_size = 0;    // F; 0: the family's custom (gpt2: 4 C; llama: 8/3 C rounded up to 32)
  int64_t num_hidden_layers = 4;    // L
  int64_t num_attention_heads = 4;  // H
  int64_t num_key_value_heads = 0;  // K; 0: H
  int64_t head_dim = 0;             // D; 0: C / H
  int64_t max_position_embeddings = 1024;
  double norm_eps = 1e-5;
  double rope_theta = 10000;
  double local_rope_theta = 10000;   // of layers with a window (Gemma 3)
  double partial_rotary_factor = 1;  // share of a head's dimensions that are rotated
  RopeSettings rope_scaling;         // theta apart; of layers without a window where local_rope_theta counts
  int64_t sliding_window = 0;        // positions that a query of a window layer sees; 0: all
  bool use_sliding_window = true;    // Qwen: false turns the window off
  int64_t max_window_layers = 0;     // Qwen: the first layer with a window
  int64_t sliding_window_pattern = 2;  // Gemma: every so many-th layer has no window
  std::vector<std::string>
      layer_types;                    // sliding_attention or full_attention; empty: by the family's pattern
  int64_t query_pre_attn_scalar = 0;  // scores are divided by its root; 0: head_dim
  double attn_logit_softcapping = 0, final_logit_softcapping = 0;  // 0: none
  bool parallel_residual = false, alibi = false;                   // of families that leave them open
  bool new_decoder_architecture = false, multi_query = false;      // Falcon
  int64_t num_ln_in_parallel_attn = 0;                             // Falcon; 0: the usual
  std::string hidden_act;  // silu, gelu (erf), gelu_new (tanh); empty: the family's
  bool attention_bias = false;
  bool mlp_bias = false;
  bool tie_word_embeddings = true;
  double embedding_dropout = 0, attention_dropout = 0, residual_dropout = 0;
  double initializer_range = 0.02;
  int64_t num_experts = 8, num_experts_per_tok = 2;  // of families with experts
  int64_t moe_intermediate_size = 0;                 // an expert's width; 0: intermediate_size
  int64_t shared_expert_intermediate_size = 0;       // Qwen 2 MoE; 0: intermediate_size
  int64_t decoder_sparse_step = 1;                   // Qwen: every so many-th layer has experts
  std::vector<int64_t> mlp_only_layers;              // Qwen: but for these
  bool norm_topk_prob = true;
  HeadKind head = HeadKind::language_model;
  bool pooler = false;              // BERT: a dense layer on the first position
  int64_t type_vocab_size = 0;      // BERT: token types
  std::vector<std::string> labels;  // of a classification head
  std::string problem_type;  // of a classification head; empty: by the labels, as the file says nothing
  double classifier_dropout = 0;
  std::optional<int64_t> bos_token_id, eos_token_id, pad_token_id;
  std::vector<int64_t> stop_ids;  // generation_config.json's eos_token_id, then config.json's

  static std::vector<std::string> families();  // of decoders: those that pretrain takes
  /// A small model as the family's own config would have it where it is silent. Throws UsageError naming the
  /// families.
  static ModelConfig of_family(const std::string& model_type);
  /// Fills in what is 0 and refuses (UsageError naming the key) what cannot be.
  void resolve();
  /// Whether next tokens can be predicted: a decoder with a language model's head.
  bool generates() const;
  /// The keys of a training config's `model` section: model_type, then the Hugging Face spellings of that
  /// family; of all decoder families where it is empty.
  void visit(ConfigVisitor& v);
  int64_t kv_heads() const { return num_key_value_heads ? num_key_value_heads : num_attention_heads; }
  /// Positions that a query of this layer sees; 0: all.
  int64_t window_of(int64_t layer) const;
  bool has_experts(int64_t layer) const;
  int64_t rotary_dim() const;  // of each head
  /// The longest sequence: max_position_embeddings, or what dynamic rotary scaling makes of it.
  int64_t context() const;
};

/// Reads config.json (and generation_config.json beside it). Throws Error naming the file, the key and what
/// to do.
ModelConfig read_model_config(const std::filesystem::path& folder);
/// config.json as transformers reads it, with both spellings of the keys that changed between its versions 4
/// and 5.
nlohmann::ordered_json model_config_json(const ModelConfig& config, const std::string& dtype);

}  // namespace llmtool
