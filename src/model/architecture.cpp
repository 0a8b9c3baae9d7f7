#include "model/architecture.h"

#include "llmtool/core/error.h"

namespace llmtool {

namespace {
constexpr int64_t kMaxVocab = int64_t{1} << 24, kMaxWidth = int64_t{1} << 20, kMaxLayers = 4096;
constexpr int64_t kMaxPositions = int64_t{1} << 24;
constexpr double kMaxTheta = 1e12;
using C = ModelConfig;

Architecture llama() {
  return {
      .model_type = "llama",
      .class_name = "LlamaForCausalLM",
      .norm = NormKind::rms,
      .norm_bias = false,
      .learned_positions = false,
      .gated = true,
      .transposed = false,
      .always_biased = false,
      .scaled_residual = false,
      .default_mlp_numerator = 8,
      .default_mlp_denominator = 3,
      .keys = {IntegerKey{"vocab_size", &C::vocab_size, 0, kMaxVocab, 32000, "0: the tokenizer's"},
               IntegerKey{"hidden_size", &C::hidden_size, 1, kMaxWidth, 4096, "channels"},
               IntegerKey{"intermediate_size", &C::intermediate_size, 0, kMaxWidth, 11008,
                          "feed-forward width; 0: 8/3 of hidden_size, rounded up to 32"},
               IntegerKey{"num_hidden_layers", &C::num_hidden_layers, 1, kMaxLayers, 32, "layers"},
               IntegerKey{"num_attention_heads", &C::num_attention_heads, 1, kMaxWidth, 32, "query heads"},
               IntegerKey{"num_key_value_heads", &C::num_key_value_heads, 0, kMaxWidth, 0,
                          "key-value heads; 0: as many as query heads"},
               IntegerKey{"head_dim", &C::head_dim, 0, kMaxWidth, 0, "0: hidden_size / num_attention_heads"},
               IntegerKey{"max_position_embeddings", &C::max_position_embeddings, 1, kMaxPositions, 2048,
                          "context"},
               NumberKey{"rms_norm_eps", &C::norm_eps, 0, 1, 1e-6, "added to the mean square"},
               NumberKey{"rope_theta", &C::rope_theta, 1, kMaxTheta, 10000, "base of the rotary wavelengths"},
               ChoiceKey{"hidden_act",
                         &C::hidden_act,
                         {"silu", "gelu", "gelu_new", "gelu_pytorch_tanh"},
                         "silu",
                         "activation"},
               BooleanKey{"attention_bias", &C::attention_bias, false, "biases in q, k, v and o"},
               BooleanKey{"mlp_bias", &C::mlp_bias, false, "biases in gate, up and down"},
               BooleanKey{"tie_word_embeddings", &C::tie_word_embeddings, false, "the head is the embedding"},
               NumberKey{"attention_dropout", &C::attention_dropout, 0, 0.99, 0,
                         "of attention probabilities"},
               NumberKey{"initializer_range", &C::initializer_range, 0, 10, 0.02,
                         "deviation of fresh weights"}},
      .refused_if_true = {},
      .refused_if_false = {},
      .names = {.prefix = "model.",
                .embedding = "embed_tokens",
                .positions = "",
                .final_norm = "norm",
                .head = "lm_head",
                .layers = "layers.",
                .attention_norm = "input_layernorm",
                .mlp_norm = "post_attention_layernorm",
                .qkv = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
                .out = "self_attn.o_proj",
                .up = {"mlp.gate_proj", "mlp.up_proj"},
                .down = "mlp.down_proj"}};
}

Architecture gpt2() {
  return {
      .model_type = "gpt2",
      .class_name = "GPT2LMHeadModel",
      .norm = NormKind::layer,
      .norm_bias = true,
      .learned_positions = true,
      .gated = false,
      .transposed = true,
      .always_biased = true,
      .scaled_residual = true,
      .default_mlp_numerator = 4,
      .default_mlp_denominator = 1,
      .keys = {IntegerKey{"vocab_size", &C::vocab_size, 0, kMaxVocab, 50257, "0: the tokenizer's"},
               IntegerKey{"n_embd", &C::hidden_size, 1, kMaxWidth, 768, "channels"},
               IntegerKey{"n_inner", &C::intermediate_size, 0, kMaxWidth, 0,
                          "feed-forward width; 0: 4 n_embd"},
               IntegerKey{"n_layer", &C::num_hidden_layers, 1, kMaxLayers, 12, "layers"},
               IntegerKey{"n_head", &C::num_attention_heads, 1, kMaxWidth, 12, "heads"},
               IntegerKey{"n_positions", &C::max_position_embeddings, 1, kMaxPositions, 1024, "context"},
               NumberKey{"layer_norm_epsilon", &C::norm_eps, 0, 1, 1e-5, "added to the variance"},
               ChoiceKey{"activation_function",
                         &C::hidden_act,
                         {"gelu_new", "gelu", "gelu_pytorch_tanh", "silu"},
                         "gelu_new",
                         "activation"},
               BooleanKey{"tie_word_embeddings", &C::tie_word_embeddings, true, "the head is the embedding"},
               NumberKey{"embd_pdrop", &C::embedding_dropout, 0, 0.99, 0.1, "dropout after the embedding"},
               NumberKey{"attn_pdrop", &C::attention_dropout, 0, 0.99, 0.1, "of attention probabilities"},
               NumberKey{"resid_pdrop", &C::residual_dropout, 0, 0.99, 0.1, "before each residual sum"},
               NumberKey{"initializer_range", &C::initializer_range, 0, 10, 0.02,
                         "deviation of fresh weights"}},
      .refused_if_true = {"scale_attn_by_inverse_layer_idx", "add_cross_attention"},
      .refused_if_false = {"scale_attn_weights"},
      .names = {.prefix = "transformer.",
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
                .down = "mlp.c_proj"}};
}

const std::vector<Architecture>& table() {
  static const std::vector<Architecture> rows = {llama(), gpt2()};
  return rows;
}
}  // namespace

const Architecture& architecture(std::string_view model_type) {
  for (const Architecture& row : table()) {
    if (model_type == row.model_type) return row;
  }
  std::string known;
  for (const Architecture& row : table()) known += (known.empty() ? "" : ", ") + std::string(row.model_type);
  throw Error(cat("model_type: expected one of ", known, ", found \"", model_type, "\""));
}

std::vector<std::string> architecture_names() {
  std::vector<std::string> names;
  for (const Architecture& row : table()) names.emplace_back(row.model_type);
  return names;
}

}  // namespace llmtool
