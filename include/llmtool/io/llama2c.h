#pragma once
// llama2.c's first format ("legacy", version 0): seven numbers, then f32 weights of a Llama model.
// Specification: https://github.com/karpathy/llama2.c, legacy_export in export.py and read_checkpoint in
// run.c.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "llmtool/core/tensor.h"
#include "llmtool/io/files.h"

namespace llmtool {

/// The seven numbers, under the names of config.json. rope_theta is 10000 and the norms' epsilon 1e-5 in
/// every such file; there is no tokenizer in it.
struct Llama2cHeader {
  int64_t hidden_size = 0;              // C
  int64_t intermediate_size = 0;        // F
  int64_t num_hidden_layers = 0;        // L
  int64_t num_attention_heads = 0;      // H
  int64_t num_key_value_heads = 0;      // K
  int64_t vocab_size = 0;               // V; stored negative where the head is a matrix of its own
  int64_t max_position_embeddings = 0;  // T
  bool tie_word_embeddings = true;
};

/// One file, mapped; the tensors (f32, 4-byte aligned) point into it under their Hugging Face names
/// ("model.layers.0.self_attn.q_proj.weight", ..., "lm_head.weight" where untied). q_proj and k_proj keep the
/// file's order of rows, in which a head's rotated pairs lie beside each other; transformers has them half a
/// head apart. Throws Error naming the file, the offset, what was expected and found, among others where the
/// file's size is not what the header says.
class Llama2cFile {
 public:
  explicit Llama2cFile(const std::filesystem::path& path);
  const Llama2cHeader& header() const { return header_; }
  const std::map<std::string, Tensor>& tensors() const { return tensors_; }

 private:
  MappedFile file_;
  Llama2cHeader header_;
  std::map<std::string, Tensor> tensors_;
};

}  // namespace llmtool
