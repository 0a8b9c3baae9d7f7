#include "model/architecture.h"

#include <algorithm>
#include <cmath>

#include "llmtool/core/error.h"

namespace llmtool {

namespace {
constexpr int64_t kMaxVocab = int64_t{1} << 24, kMaxWidth = int64_t{1} << 20, kMaxLayers = 4096;
constexpr int64_t kMaxExperts = 4096;
constexpr int64_t kMaxPositions = int64_t{1} << 24;
constexpr double kMaxTheta = 1e12;
using C = ModelConfig;

// The keys, each with the family's spelling and default.
IntegerKey vocab(int64_t absent) {
  return {"vocab_size", &C::vocab_size, 0, kMaxVocab, absent, "0: the tokenizer's"};
}
IntegerKey width(const char* name, int64_t absent) {
  return {name, &C::hidden_size, 1, kMaxWidth, absent, "channels"};
}
IntegerKey inner(const char* name, int64_t absent, const char* help, bool nullable = false) {
  return {name, &C::intermediate_size, 0, kMaxWidth, absent, help, nullable};
}
IntegerKey layers(const char* name, int64_t absent) {
  return {name, &C::num_hidden_layers, 1, kMaxLayers, absent, "layers"};
}
IntegerKey heads(const char* name, int64_t absent) {
  return {name, &C::num_attention_heads, 1, kMaxWidth, absent, "query heads"};
}
IntegerKey kv_heads(int64_t absent, const char* name = "num_key_value_heads") {
  return {name, &C::num_key_value_heads, 0, kMaxWidth, absent, "key-value heads; 0: as many as query heads",
          true};
}
IntegerKey head_dim(int64_t absent) {
  return {"head_dim", &C::head_dim, 0, kMaxWidth, absent, "0: hidden_size / num_attention_heads", true};
}
IntegerKey context(int64_t absent, const char* name = "max_position_embeddings") {
  return {name, &C::max_position_embeddings, 1, kMaxPositions, absent, "context"};
}
NumberKey eps(const char* name, double absent) {
  return {name, &C::norm_eps, 0, 1, absent, "added to the variance"};
}
NumberKey theta(double absent, const char* name = "rope_theta") {
  return {name, &C::rope_theta, 1, kMaxTheta, absent, "base of the rotary wavelengths"};
}
NumberKey rotary(double absent, const char* name = "partial_rotary_factor") {
  return {name, &C::partial_rotary_factor, 0, 1, absent, "share of a head's dimensions that are rotated"};
}
ChoiceKey activation(const char* name, const char* absent) {
  return {
      name, &C::hidden_act, {"silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu"}, absent, "activation"};
}
BooleanKey tied(bool absent) {
  return {"tie_word_embeddings", &C::tie_word_embeddings, absent, "the head is the embedding"};
}
NumberKey dropout(const char* name, double C::*field, double absent, const char* help) {
  return {name, field, 0, 0.99, absent, help};
}
NumberKey attention_dropout(double absent = 0, const char* name = "attention_dropout") {
  return dropout(name, &C::attention_dropout, absent, "of attention probabilities");
}
NumberKey residual_dropout(const char* name, double absent = 0) {
  return dropout(name, &C::residual_dropout, absent, "before each residual sum");
}
NumberKey embedding_dropout(double absent) {
  return dropout("embd_pdrop", &C::embedding_dropout, absent, "dropout after the embedding");
}
NumberKey initializer() {
  return {"initializer_range", &C::initializer_range, 0, 10, 0.02, "deviation of fresh weights"};
}
IntegerKey window(int64_t absent) {
  return {"sliding_window",
          &C::sliding_window,
          0,
          kMaxPositions,
          absent,
          "positions that a query sees; 0: all",
          true};
}
BooleanKey qkv_and_out_bias() {
  return {"attention_bias", &C::attention_bias, false, "biases in q, k, v and o"};
}
constexpr const char* kInnerOfLlama = "feed-forward width; 0: 8/3 of hidden_size, rounded up to 32";
constexpr const char* kInnerOfFour = "feed-forward width; 0: 4 times the channels";

WeightNames llama_names() {
  return {.prefix = "model.",
          .embedding = "embed_tokens",
          .final_norm = "norm",
          .head = "lm_head",
          .layers = "layers.",
          .attention_norm = "input_layernorm",
          .mlp_norm = "post_attention_layernorm",
          .qkv = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
          .out = "self_attn.o_proj",
          .up = {"mlp.gate_proj", "mlp.up_proj"},
          .down = "mlp.down_proj"};
}

Architecture llama() {
  Architecture a{.model_type = "llama", .class_stem = "Llama"};
  a.qkv_bias = a.out_bias = &C::attention_bias;
  a.mlp_bias = &C::mlp_bias;
  a.default_mlp_numerator = 8;
  a.default_mlp_denominator = 3;
  a.names = llama_names();
  a.keys = {vocab(32000),
            width("hidden_size", 4096),
            inner("intermediate_size", 11008, kInnerOfLlama),
            layers("num_hidden_layers", 32),
            heads("num_attention_heads", 32),
            kv_heads(0),
            head_dim(0),
            context(2048),
            eps("rms_norm_eps", 1e-6),
            theta(10000),
            activation("hidden_act", "silu"),
            qkv_and_out_bias(),
            BooleanKey{"mlp_bias", &C::mlp_bias, false, "biases in gate, up and down"},
            tied(false),
            attention_dropout(),
            initializer()};
  return a;
}

/// Keys of a family that is the Llama one but for a few: those named are replaced or added.
std::vector<ConfigKey> changed(std::vector<ConfigKey> keys, const std::vector<ConfigKey>& changes) {
  const auto name = [](const ConfigKey& key) {
    return std::visit([](const auto& k) { return std::string_view(k.name); }, key);
  };
  for (const ConfigKey& change : changes) {
    const auto it = std::find_if(keys.begin(), keys.end(),
                                 [&](const ConfigKey& key) { return name(key) == name(change); });
    if (it == keys.end()) {
      keys.push_back(change);
    } else {
      *it = change;
    }
  }
  return keys;
}
std::vector<ConfigKey> without(std::vector<ConfigKey> keys, const std::vector<std::string_view>& names) {
  std::erase_if(keys, [&](const ConfigKey& key) {
    const char* const name = std::visit([](const auto& k) { return k.name; }, key);
    return std::find(names.begin(), names.end(), name) != names.end();
  });
  return keys;
}

Architecture mistral() {
  Architecture a = llama();
  a.model_type = "mistral";
  a.class_stem = "Mistral";
  a.windows = Windows::all;
  a.qkv_bias = a.out_bias = a.mlp_bias = false;
  a.keys =
      changed(without(a.keys, {"attention_bias", "mlp_bias"}),
              {inner("intermediate_size", 14336, kInnerOfLlama), kv_heads(8), context(131072), window(4096)});
  return a;
}

std::vector<ConfigKey> qwen_windows() {
  return {
      BooleanKey{"use_sliding_window", &C::use_sliding_window, false, "later layers see a window"},
      window(4096),
      IntegerKey{"max_window_layers", &C::max_window_layers, 0, kMaxLayers, 28, "first layer with a window"}};
}

Architecture qwen2() {
  Architecture a = llama();
  a.model_type = "qwen2";
  a.class_stem = "Qwen2";
  a.windows = Windows::later;
  a.qkv_bias = true;
  a.out_bias = a.mlp_bias = false;
  a.keys = changed(
      without(a.keys, {"attention_bias", "mlp_bias"}),
      {vocab(151936), inner("intermediate_size", 22016, kInnerOfLlama), kv_heads(32), context(32768)});
  a.keys = changed(a.keys, qwen_windows());
  return a;
}

Architecture qwen3() {
  Architecture a = qwen2();
  a.model_type = "qwen3";
  a.class_stem = "Qwen3";
  a.qkv_bias = a.out_bias = &C::attention_bias;
  a.names.q_norm = "self_attn.q_norm";
  a.names.k_norm = "self_attn.k_norm";
  a.keys = changed(a.keys, {head_dim(128), qkv_and_out_bias()});
  return a;
}

std::vector<ConfigKey> expert_keys(int64_t experts, int64_t chosen, const char* name = "num_experts") {
  return {IntegerKey{name, &C::num_experts, 1, kMaxExperts, experts, "experts of a layer"},
          IntegerKey{"num_experts_per_tok", &C::num_experts_per_tok, 1, kMaxExperts, chosen,
                     "experts that a position uses"}};
}
std::vector<ConfigKey> qwen_expert_keys(int64_t width) {
  return {IntegerKey{"moe_intermediate_size", &C::moe_intermediate_size, 0, kMaxWidth, width,
                     "an expert's width; 0: intermediate_size"},
          IntegerKey{"decoder_sparse_step", &C::decoder_sparse_step, 1, kMaxLayers, 1,
                     "every so many-th layer has experts"},
          BooleanKey{"norm_topk_prob", &C::norm_topk_prob, false, "the chosen experts' weights sum to 1"}};
}

Architecture mixtral() {
  Architecture a = mistral();
  a.model_type = "mixtral";
  a.class_stem = "Mixtral";
  a.names.experts = {.router = "block_sparse_moe.gate",
                     .prefix = "block_sparse_moe.experts.",
                     .up = {"w1", "w3"},
                     .down = "w2"};
  a.keys = changed(a.keys, {eps("rms_norm_eps", 1e-5), theta(1e6), window(0)});
  a.keys = changed(a.keys, expert_keys(8, 2, "num_local_experts"));
  return a;
}

ExpertNames qwen_experts() {
  return {
      .router = "mlp.gate", .prefix = "mlp.experts.", .up = {"gate_proj", "up_proj"}, .down = "down_proj"};
}

Architecture qwen2_moe() {
  Architecture a = qwen2();
  a.model_type = "qwen2_moe";
  a.class_stem = "Qwen2Moe";
  a.names.experts = qwen_experts();
  a.names.experts.shared_up = {"mlp.shared_expert.gate_proj", "mlp.shared_expert.up_proj"};
  a.names.experts.shared_down = "mlp.shared_expert.down_proj";
  a.names.experts.shared_gate = "mlp.shared_expert_gate";
  a.windows = Windows::earlier;
  a.qkv_bias = &C::attention_bias;
  a.keys =
      changed(a.keys, {width("hidden_size", 2048), inner("intermediate_size", 5632, kInnerOfLlama),
                       layers("num_hidden_layers", 24), heads("num_attention_heads", 16), kv_heads(16),
                       BooleanKey{"qkv_bias", &C::attention_bias, true, "biases in q, k and v"},
                       IntegerKey{"shared_expert_intermediate_size", &C::shared_expert_intermediate_size, 0,
                                  kMaxWidth, 5632, "the shared expert's width; 0: intermediate_size"}});
  a.keys = changed(a.keys, expert_keys(60, 4));
  a.keys = changed(a.keys, qwen_expert_keys(1408));
  return a;
}

Architecture qwen3_moe() {
  Architecture a = qwen3();
  a.model_type = "qwen3_moe";
  a.class_stem = "Qwen3Moe";
  a.windows = Windows::all;
  a.names.experts = qwen_experts();
  a.keys = changed(without(a.keys, {"max_window_layers"}),
                   {width("hidden_size", 2048), inner("intermediate_size", 6144, kInnerOfLlama),
                    layers("num_hidden_layers", 24), kv_heads(4), head_dim(0)});
  a.keys = changed(a.keys, expert_keys(128, 8));
  a.keys = changed(a.keys, qwen_expert_keys(768));
  return a;
}

Architecture gemma() {
  Architecture a = llama();
  a.model_type = "gemma";
  a.class_stem = "Gemma";
  a.norm_offset = 1;
  a.scaled_embedding = true;
  a.gelu_means_tanh = true;
  a.mlp_bias = false;
  a.keys =
      changed(without(a.keys, {"mlp_bias"}),
              {vocab(256000), width("hidden_size", 3072), inner("intermediate_size", 24576, kInnerOfLlama),
               layers("num_hidden_layers", 28), heads("num_attention_heads", 16), kv_heads(16), head_dim(256),
               context(8192), activation("hidden_act", "gelu_pytorch_tanh"), tied(true)});
  a.refused_if_true = {"use_bidirectional_attention"};
  return a;
}

Architecture gemma2() {
  Architecture a = gemma();
  a.model_type = "gemma2";
  a.class_stem = "Gemma2";
  a.windows = Windows::alternating;
  a.names.attention_out_norm = "post_attention_layernorm";
  a.names.mlp_norm = "pre_feedforward_layernorm";
  a.names.mlp_out_norm = "post_feedforward_layernorm";
  a.keys = changed(without(a.keys, {"hidden_act"}),
                   {width("hidden_size", 2304), inner("intermediate_size", 9216, kInnerOfLlama),
                    layers("num_hidden_layers", 26), heads("num_attention_heads", 8), kv_heads(4),
                    activation("hidden_activation", "gelu_pytorch_tanh"),
                    IntegerKey{"query_pre_attn_scalar", &C::query_pre_attn_scalar, 0, kMaxWidth, 256,
                               "scores are divided by its root; 0: head_dim"},
                    NumberKey{"attn_logit_softcapping", &C::attn_logit_softcapping, 0, 1e6, 50,
                              "cap of the scores; 0: none", true},
                    NumberKey{"final_logit_softcapping", &C::final_logit_softcapping, 0, 1e6, 30,
                              "cap of the logits; 0: none", true},
                    window(4096)});
  return a;
}

Architecture gemma3() {
  Architecture a = gemma2();
  a.model_type = "gemma3_text";
  a.class_stem = "Gemma3Text";
  a.language_model = "Gemma3ForCausalLM";
  a.rope_theta = 1e6;
  a.names.q_norm = "self_attn.q_norm";
  a.names.k_norm = "self_attn.k_norm";
  a.keys = changed(a.keys, {vocab(262208), context(131072), theta(1e6),
                            NumberKey{"rope_local_base_freq", &C::local_rope_theta, 1, kMaxTheta, 10000,
                                      "rope_theta of window layers"},
                            NumberKey{"attn_logit_softcapping", &C::attn_logit_softcapping, 0, 1e6, 0,
                                      "cap of the scores; 0: none", true},
                            NumberKey{"final_logit_softcapping", &C::final_logit_softcapping, 0, 1e6, 0,
                                      "cap of the logits; 0: none", true},
                            IntegerKey{"sliding_window_pattern", &C::sliding_window_pattern, 1, kMaxLayers, 6,
                                       "every so many-th layer sees all positions"}});
  return a;
}

Architecture phi3() {
  Architecture a = llama();
  a.model_type = "phi3";
  a.class_stem = "Phi3";
  a.windows = Windows::all;
  a.qkv_bias = a.out_bias = a.mlp_bias = false;
  a.longrope_only = true;
  a.names.qkv = {"self_attn.qkv_proj"};
  a.names.up = {"mlp.gate_up_proj"};
  a.keys = changed(without(a.keys, {"attention_bias", "mlp_bias", "head_dim"}),
                   {vocab(32064), width("hidden_size", 3072), inner("intermediate_size", 8192, kInnerOfLlama),
                    context(4096), eps("rms_norm_eps", 1e-5), rotary(1), window(0),
                    residual_dropout("resid_pdrop"), embedding_dropout(0)});
  return a;
}

Architecture olmo2() {
  Architecture a = llama();
  a.model_type = "olmo2";
  a.class_stem = "Olmo2";
  a.norm_per_head = false;
  a.mlp_bias = false;
  a.names.attention_norm = a.names.mlp_norm = "";
  a.names.attention_out_norm = "post_attention_layernorm";
  a.names.mlp_out_norm = "post_feedforward_layernorm";
  a.names.q_norm = "self_attn.q_norm";
  a.names.k_norm = "self_attn.k_norm";
  a.keys = changed(without(a.keys, {"mlp_bias", "head_dim"}), {vocab(50304), eps("rms_norm_eps", 1e-5)});
  return a;
}

Architecture stablelm() {
  Architecture a = llama();
  a.model_type = "stablelm";
  a.class_stem = "StableLm";
  a.norm = NormKind::layer;
  a.norm_bias = true;
  a.rotary_factor = 0.25;
  a.qkv_bias = &C::attention_bias;
  a.out_bias = a.mlp_bias = false;
  a.keys =
      changed(without(a.keys, {"attention_bias", "mlp_bias", "head_dim", "rms_norm_eps"}),
              {vocab(50304), width("hidden_size", 2560), inner("intermediate_size", 6912, kInnerOfLlama),
               kv_heads(32), context(4096), eps("layer_norm_eps", 1e-5), rotary(0.25),
               BooleanKey{"use_qkv_bias", &C::attention_bias, false, "biases in q, k and v"},
               BooleanKey{"use_parallel_residual", &C::parallel_residual, false, "both parts read one norm"},
               residual_dropout("hidden_dropout")});
  a.refused_if_true = {"qk_layernorm"};
  return a;
}

Architecture stablelm_parallel() {
  Architecture a = stablelm();
  a.when = {{&C::parallel_residual, 1}};
  a.parallel = a.shared_norm = true;
  a.names.mlp_norm = "";
  return a;
}

Architecture gpt2() {
  Architecture a{.model_type = "gpt2",
                 .class_stem = "GPT2",
                 .language_model = "GPT2LMHeadModel",
                 .norm = NormKind::layer,
                 .norm_bias = true};
  a.positions = Positions::learned;
  a.gated = false;
  a.transposed = true;
  a.qkv_bias = a.out_bias = a.mlp_bias = true;
  a.scaled_residual = true;
  a.keys = {vocab(50257),
            width("n_embd", 768),
            inner("n_inner", 0, "feed-forward width; 0: 4 n_embd", true),
            layers("n_layer", 12),
            heads("n_head", 12),
            context(1024, "n_positions"),
            eps("layer_norm_epsilon", 1e-5),
            activation("activation_function", "gelu_new"),
            tied(true),
            embedding_dropout(0.1),
            attention_dropout(0.1, "attn_pdrop"),
            residual_dropout("resid_pdrop", 0.1),
            initializer()};
  a.refused_if_true = {"scale_attn_by_inverse_layer_idx", "add_cross_attention"};
  a.refused_if_false = {"scale_attn_weights"};
  a.names = {.prefix = "transformer.",
             .embedding = "wte",
             .positions = "wpe",
             .final_norm = "ln_f",
             .head = "lm_head",
             .layers = "h.",
             .attention_norm = "ln_1",
             .mlp_norm = "ln_2",
             .qkv = {"attn.c_attn"},
             .out = "attn.c_proj",
             .up = {"mlp.c_fc"},
             .down = "mlp.c_proj"};
  return a;
}

Architecture gpt_neox() {
  Architecture a{
      .model_type = "gpt_neox", .class_stem = "GPTNeoX", .norm = NormKind::layer, .norm_bias = true};
  a.rotary_factor = 0.25;
  a.gated = false;
  a.parallel = &C::parallel_residual;
  a.qkv_layout = QkvLayout::grouped;
  a.qkv_bias = a.out_bias = &C::attention_bias;
  a.mlp_bias = true;
  a.keys = {vocab(50432),
            width("hidden_size", 6144),
            inner("intermediate_size", 24576, kInnerOfFour),
            layers("num_hidden_layers", 44),
            heads("num_attention_heads", 64),
            context(2048),
            eps("layer_norm_eps", 1e-5),
            theta(10000, "rotary_emb_base"),
            rotary(0.25, "rotary_pct"),
            activation("hidden_act", "gelu"),
            BooleanKey{"attention_bias", &C::attention_bias, true, "biases in the attention"},
            BooleanKey{"use_parallel_residual", &C::parallel_residual, true, "both parts read x"},
            tied(false),
            attention_dropout(),
            residual_dropout("hidden_dropout"),
            initializer()};
  a.names = {.prefix = "gpt_neox.",
             .embedding = "embed_in",
             .final_norm = "final_layer_norm",
             .head = "embed_out",
             .layers = "layers.",
             .attention_norm = "input_layernorm",
             .mlp_norm = "post_attention_layernorm",
             .qkv = {"attention.query_key_value"},
             .out = "attention.dense",
             .up = {"mlp.dense_h_to_4h"},
             .down = "mlp.dense_4h_to_h"};
  return a;
}

Architecture bloom() {
  Architecture a{.model_type = "bloom", .class_stem = "Bloom", .norm = NormKind::layer, .norm_bias = true};
  a.positions = Positions::alibi;
  a.gated = false;
  a.qkv_layout = QkvLayout::grouped;
  a.qkv_bias = a.out_bias = a.mlp_bias = true;
  a.keys = {vocab(250880),
            width("hidden_size", 64),
            layers("n_layer", 2),
            heads("n_head", 8),
            context(2048, "seq_length"),
            eps("layer_norm_epsilon", 1e-5),
            activation("hidden_act", "gelu_new"),
            tied(true),
            attention_dropout(),
            residual_dropout("hidden_dropout"),
            initializer()};
  a.refused_if_true = {"apply_residual_connection_post_layernorm"};
  a.names = {.prefix = "transformer.",
             .embedding = "word_embeddings",
             .embedding_norm = "word_embeddings_layernorm",
             .final_norm = "ln_f",
             .head = "lm_head",
             .layers = "h.",
             .attention_norm = "input_layernorm",
             .mlp_norm = "post_attention_layernorm",
             .qkv = {"self_attention.query_key_value"},
             .out = "self_attention.dense",
             .up = {"mlp.dense_h_to_4h"},
             .down = "mlp.dense_4h_to_h"};
  return a;
}

/// Falcon's three ages: 40B and its kin with grouped keys and two norms (one: 11B), 7B with both parts behind
/// one norm, the rest (RW) one part after another. The last two have one key-value head or as many as
/// queries.
std::vector<Architecture> falcon() {
  Architecture a = bloom();
  a.model_type = "falcon";
  a.class_stem = "Falcon";
  a.names.embedding_norm = "";
  a.qkv_bias = a.out_bias = a.mlp_bias = &C::attention_bias;
  a.keys = {
      vocab(65024),
      width("hidden_size", 4544),
      inner("ffn_hidden_size", 0, kInnerOfFour, true),
      layers("num_hidden_layers", 32),
      heads("num_attention_heads", 71),
      kv_heads(0, "num_kv_heads"),
      context(2048),
      eps("layer_norm_epsilon", 1e-5),
      theta(10000),
      activation("activation", "gelu"),
      BooleanKey{"bias", &C::attention_bias, false, "biases in linear layers"},
      BooleanKey{"alibi", &C::alibi, false, "ALiBi instead of rotary positions"},
      BooleanKey{"new_decoder_architecture", &C::new_decoder_architecture, false, "that of the 40B model"},
      BooleanKey{"multi_query", &C::multi_query, true, "one key-value head"},
      BooleanKey{"parallel_attn", &C::parallel_residual, true, "both parts read x"},
      IntegerKey{"num_ln_in_parallel_attn", &C::num_ln_in_parallel_attn, 0, 2, 0, "norms of x; 0: the usual",
                 true},
      tied(true),
      attention_dropout(),
      residual_dropout("hidden_dropout"),
      initializer()};
  a.refused_if_true = {};
  const Architecture sequential = a;

  Architecture one_norm = a;
  one_norm.parallel = one_norm.shared_norm = true;
  one_norm.names.mlp_norm = "";
  Architecture two_norms = a;
  two_norms.parallel = true;
  two_norms.names.attention_norm = "ln_attn";
  two_norms.names.mlp_norm = "ln_mlp";

  std::vector<Architecture> rows;
  const auto add = [&](Architecture row, std::vector<Condition> when, bool one_kv_head) {
    row.one_kv_head = one_kv_head;
    for (const bool alibi : {true, false}) {
      row.when = when;
      row.when.push_back({&C::alibi, alibi});
      row.positions = alibi ? Positions::alibi_bf16 : Positions::rope;
      rows.push_back(row);
    }
  };
  add(one_norm, {{&C::new_decoder_architecture, 1}, {&C::num_ln_in_parallel_attn, 1}}, false);
  add(two_norms, {{&C::new_decoder_architecture, 1}}, false);
  add(one_norm, {{&C::parallel_residual, 1}, {&C::multi_query, 1}}, true);
  add(one_norm, {{&C::parallel_residual, 1}}, false);
  add(sequential, {{&C::multi_query, 1}}, true);
  add(sequential, {}, false);
  return rows;
}

Architecture bert() {
  Architecture a{.model_type = "bert",
                 .class_stem = "Bert",
                 .language_model = "BertForMaskedLM",
                 .norm = NormKind::layer,
                 .norm_bias = true,
                 .causal = false};
  a.positions = Positions::learned;
  a.gated = false;
  a.qkv_bias = a.out_bias = a.mlp_bias = a.classifier_bias = true;
  a.embedding_drops_like_residual = true;
  a.keys = {vocab(30522),
            width("hidden_size", 768),
            inner("intermediate_size", 3072, kInnerOfFour),
            layers("num_hidden_layers", 12),
            heads("num_attention_heads", 12),
            context(512),
            IntegerKey{"type_vocab_size", &C::type_vocab_size, 1, kMaxVocab, 2, "token types"},
            eps("layer_norm_eps", 1e-12),
            activation("hidden_act", "gelu"),
            tied(true),
            attention_dropout(0.1, "attention_probs_dropout_prob"),
            residual_dropout("hidden_dropout_prob", 0.1),
            initializer()};
  a.refused_if_true = {"is_decoder", "add_cross_attention"};
  a.ignored = {"cls.seq_relationship.", "cls.predictions.bias", "cls.predictions.decoder.bias",
               "bert.embeddings.position_ids", "embeddings.position_ids"};
  a.names = {.prefix = "bert.",
             .embedding = "embeddings.word_embeddings",
             .positions = "embeddings.position_embeddings",
             .token_types = "embeddings.token_type_embeddings",
             .embedding_norm = "embeddings.LayerNorm",
             .head = "cls.predictions.decoder",
             .head_bias = "cls.predictions.bias",
             .head_transform = "cls.predictions.transform.dense",
             .head_norm = "cls.predictions.transform.LayerNorm",
             .pooler = "pooler.dense",
             .classifier = "classifier",
             .layers = "encoder.layer.",
             .after_attention_norm = "attention.output.LayerNorm",
             .after_mlp_norm = "output.LayerNorm",
             .qkv = {"attention.self.query", "attention.self.key", "attention.self.value"},
             .out = "attention.output.dense",
             .up = {"intermediate.dense"},
             .down = "output.dense"};
  return a;
}

const std::vector<Architecture>& table() {
  static const std::vector<Architecture> rows = [] {
    std::vector<Architecture> all = {llama(),    gpt2(),      mistral(),  qwen2(), qwen3(),
                                     gemma(),    gemma2(),    gemma3(),   phi3(),  stablelm_parallel(),
                                     stablelm(), gpt_neox(),  olmo2(),    bloom(), bert(),
                                     mixtral(),  qwen2_moe(), qwen3_moe()};
    for (Architecture& row : falcon()) all.push_back(std::move(row));
    return all;
  }();
  return rows;
}
}  // namespace

const Architecture& architecture(const ModelConfig& config) {
  for (const Architecture& row : table()) {
    if (config.model_type != row.model_type) continue;
    if (std::all_of(row.when.begin(), row.when.end(), [&](const Condition& c) { return c.holds(config); }))
      return row;
  }
  return architecture(config.model_type);
}

const Architecture& architecture(std::string_view model_type) {
  for (const Architecture& row : table()) {
    if (model_type == row.model_type) return row;
  }
  std::string known;
  for (const std::string& name : architecture_names()) known += (known.empty() ? "" : ", ") + name;
  throw Error(cat("model_type: expected one of ", known, ", found \"", model_type, "\""));
}

std::string class_of(const ModelConfig& config) {
  const Architecture& row = architecture(config);
  switch (config.head) {
    case HeadKind::classification:
      return cat(row.class_stem, "ForSequenceClassification");
    case HeadKind::none:
      return cat(row.class_stem, "Model");
    case HeadKind::language_model:
      break;
  }
  return *row.language_model ? row.language_model : cat(row.class_stem, "ForCausalLM");
}

double yarn_magnitude(double factor, double weight) {
  return factor <= 1 ? 1.0 : 0.1 * weight * std::log(factor) + 1.0;
}

bool has_local_rope(const ModelConfig& config) {
  const auto& keys = architecture(config).keys;
  return std::any_of(keys.begin(), keys.end(), [](const ConfigKey& key) {
    const auto* const number = std::get_if<NumberKey>(&key);
    return number && number->field == &ModelConfig::local_rope_theta;
  });
}

std::vector<std::string> architecture_names() {
  std::vector<std::string> names;
  for (const Architecture& row : table()) {
    if (std::find(names.begin(), names.end(), row.model_type) == names.end())
      names.emplace_back(row.model_type);
  }
  return names;
}

}  // namespace llmtool
