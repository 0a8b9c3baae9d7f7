#include "llmtool/io/llama2c.h"

#include <cstring>
#include <functional>

#include "llmtool/core/error.h"

namespace llmtool {

namespace {
constexpr uint32_t kVersionedMagic = 0x616b3432;  // "ak42", of llama2.c's later formats
constexpr size_t kHeaderBytes = 7 * sizeof(int32_t);
constexpr int64_t kMaxDimension = 1 << 20, kMaxVocabulary = 1 << 24, kMaxLayers = 1 << 12;

Llama2cHeader read_header(std::span<const std::byte> bytes, const std::string& file) {
  if (bytes.size() < kHeaderBytes)
    throw Error(cat(file, ": header: expected ", kHeaderBytes, " bytes, found ", bytes.size()));
  uint32_t magic = 0;
  std::memcpy(&magic, bytes.data(), sizeof magic);
  if (magic == kVersionedMagic) {
    throw Error(cat(file, ": a later format of llama2.c; export the model with its --version 0"));
  }
  size_t at = 0;
  const auto take = [&](const char* name, int64_t min, int64_t max) {
    int32_t value = 0;
    std::memcpy(&value, bytes.data() + at, sizeof value);
    if (value < min || value > max) {
      throw Error(cat(file, ": ", name, ": at offset ", at, ": expected a number from ", min, " to ", max,
                      ", found ", value, "; is this a file of llama2.c?"));
    }
    at += sizeof value;
    return static_cast<int64_t>(value);
  };
  Llama2cHeader h;
  h.hidden_size = take("dim", 1, kMaxDimension);
  h.intermediate_size = take("hidden_dim", 1, kMaxDimension);
  h.num_hidden_layers = take("n_layers", 1, kMaxLayers);
  h.num_attention_heads = take("n_heads", 1, h.hidden_size);
  h.num_key_value_heads = take("n_kv_heads", 1, h.num_attention_heads);
  const int64_t vocabulary = take("vocab_size", -kMaxVocabulary, kMaxVocabulary);
  h.max_position_embeddings = take("seq_len", 1, kMaxDimension);
  h.vocab_size = std::abs(vocabulary);
  h.tie_word_embeddings = vocabulary > 0;
  if (vocabulary == 0) throw Error(cat(file, ": vocab_size: at offset 20: expected a number but 0"));
  if (h.hidden_size % (2 * h.num_attention_heads) != 0 ||
      h.num_attention_heads % h.num_key_value_heads != 0) {
    throw Error(cat(file, ": n_heads: at offset 12: expected dim a multiple of 2 n_heads and n_heads of ",
                    "n_kv_heads, found ", h.hidden_size, ", ", h.num_attention_heads, " and ",
                    h.num_key_value_heads));
  }
  return h;
}

/// Calls `tensor(name, shape)` for each in the file's order; "" for the two that nobody needs.
void for_each_tensor(const Llama2cHeader& h, const std::function<void(const std::string&, Shape)>& tensor) {
  const int64_t C = h.hidden_size, F = h.intermediate_size, D = C / h.num_attention_heads;
  const int64_t kv = h.num_key_value_heads * D;
  const auto layers = [&](const char* name, const Shape& shape) {
    for (int64_t l = 0; l < h.num_hidden_layers; ++l) tensor(cat("model.layers.", l, ".", name), shape);
  };
  tensor("model.embed_tokens.weight", {h.vocab_size, C});
  layers("input_layernorm.weight", {C});
  layers("self_attn.q_proj.weight", {C, C});
  layers("self_attn.k_proj.weight", {kv, C});
  layers("self_attn.v_proj.weight", {kv, C});
  layers("self_attn.o_proj.weight", {C, C});
  layers("post_attention_layernorm.weight", {C});
  layers("mlp.gate_proj.weight", {F, C});
  layers("mlp.down_proj.weight", {C, F});
  layers("mlp.up_proj.weight", {F, C});
  tensor("model.norm.weight", {C});
  // Cosines and sines of the rotary positions, which are computed instead.
  tensor("", {h.max_position_embeddings, D / 2});
  tensor("", {h.max_position_embeddings, D / 2});
  if (!h.tie_word_embeddings) tensor("lm_head.weight", {h.vocab_size, C});
}
}  // namespace

Llama2cFile::Llama2cFile(const std::filesystem::path& path) : file_(path) {
  const std::string name = path.string();
  const std::span<const std::byte> bytes = file_.bytes();
  header_ = read_header(bytes, name);
  // No sum or product overflows: 4,096 layers of nine tensors of at most 2^42 bytes.
  uint64_t expected = kHeaderBytes;
  uint64_t tensors = 0;
  for_each_tensor(header_, [&](const std::string&, const Shape& shape) {
    expected += static_cast<uint64_t>(shape.size()) * sizeof(float);
    ++tensors;
  });
  if (expected != bytes.size()) {
    throw Error(cat(name, ": expected ", expected, " bytes for the ", tensors,
                    " tensors of its header, found ", bytes.size()));
  }
  uint64_t at = kHeaderBytes;
  for_each_tensor(header_, [&](const std::string& tensor, const Shape& shape) {
    auto* const data = const_cast<std::byte*>(bytes.data() + at);
    if (!tensor.empty()) tensors_[tensor] = Tensor(data, DType::f32, shape);
    at += static_cast<uint64_t>(shape.size()) * sizeof(float);
  });
}

}  // namespace llmtool
