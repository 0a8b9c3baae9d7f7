#pragma once
// What GGUF calls a family and its parts, and how it stores them.

#include <span>
#include <string>
#include <vector>

#include "llmtool/model/embedding.h"
#include "model/architecture.h"

namespace llmtool {

struct GgufFamily {
  const char* name;                // general.architecture
  const char* model_type;          // ours; the first row of a name is the one that is read
  bool pairs_adjacent;             // rows of queries and keys lie so that rotated pairs are neighbours
  bool norms_shifted;              // norms are stored with the 1 that the family adds
  bool experts_normalized = true;  // the weights of the chosen experts sum to 1
};

/// The family of models with or without experts; nullptr where there is none.
const GgufFamily* gguf_family_named(const std::string& name, bool experts);
const GgufFamily* gguf_family_of(const std::string& model_type);
std::string gguf_families();  // "llama, qwen2, ..."

/// Where a parameter stands in a file: the experts' matrices of a layer lie in one tensor.
struct GgufPlace {
  std::string tensor;
  int64_t expert = -1;  // the entry of the tensor's first dimension; -1: all of it
};

/// By llama.cpp's names: "blk.0.attn_q.weight" of "model.layers.0.self_attn.q_proj.weight", entry 7 of
/// "blk.0.ffn_down_exps.weight" of "model.layers.0.mlp.experts.7.down_proj.weight".
GgufPlace gguf_place(const Architecture& row, const std::string& parameter);

/// pooling_type's number; 0 where llama.cpp has none such.
uint32_t gguf_pooling_type(Pooling pooling);

/// query_pre_attn_scalar, which files do not say: head_dim, but in the largest Gemmas C / H.
int64_t gguf_score_scalar(const ModelConfig& config);

/// Rows of `heads` heads of D in half-split order, where the file has each rotated pair side by side.
std::vector<int64_t> adjacent_pairs(int64_t heads, int64_t D);

/// The rows of the parameter named `parameter` in a file with adjacent pairs; empty where it is no query or
/// key.
std::vector<int64_t> adjacent_rows(const ModelConfig& config, const std::string& parameter);

/// Brings the rows of a parameter, or of what is added to it, into the order of a file.
void to_gguf_rows(const ModelConfig& config, const std::string& parameter, std::span<float> values);

/// Throws UsageError where llmtool would write what llama.cpp runs otherwise.
void check_gguf(const ModelConfig& config);

}  // namespace llmtool
