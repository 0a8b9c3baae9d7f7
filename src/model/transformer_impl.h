#pragma once
// The parts of a Transformer.

#include <functional>
#include <string>
#include <vector>

#include "llmtool/model/model_source.h"
#include "llmtool/model/transformer.h"
#include "llmtool/nn/block.h"
#include "model/architecture.h"

namespace llmtool {

struct Transformer::Impl {
  Impl(ModelConfig c, std::shared_ptr<const ModelSource> files);
  void use_in_place();
  void read_the_rest();

  /// Adds the parameters of a linear layer: weights first, so that they are neighbours in memory, then
  /// biases.
  Linear add_linear(const std::string& prefix, const std::vector<const char*>& names, int64_t in,
                    const std::vector<int64_t>& outs, bool bias);
  /// The norm of that name; none where the name is empty. `width` 0: C.
  Norm add_norm(const std::string& prefix, const char* name, int64_t width = 0);
  Block add_block(int64_t layer);

  // x (B, T, C) -> y through all layers; `inputs` receives the input of each layer where backward will need
  // it.
  /// `raw` receives what stands before the embedding's norm; x itself where there is none.
  void embed_tokens(Exec& exec, const Sequences& s, std::span<const int32_t> ids, Tensor raw, Tensor x) const;
  void run_layers(Exec& exec, std::span<const int32_t> ids, int64_t B, int64_t T,
                  std::span<KvCache* const> caches, std::span<const int64_t> lengths, Tensor last) const;
  void logits_of(Exec& exec, Tensor hidden, Tensor logits, bool few_rows) const;
  LossSums head_loss(Exec& exec, Tensor hidden, std::span<const int32_t> targets, const LossOptions& options,
                     Tensor dhidden);
  /// Gives s what the family's positions need, in scratch: tables of its first n positions. They belong to
  /// sequences that are, or will be, `lengths` long: as many positions each.
  void place(Exec& exec, Sequences& s, int64_t n, std::span<const int64_t> lengths) const;
  /// The rows of a fused query-key-value weight in files.
  std::vector<int64_t> qkv_file_rows() const;
  void check_ids(std::span<const int32_t> ids, int32_t lowest, const char* what) const;
  void report(const char* name, int64_t layer, Tensor value) const {
    if (observer) observer(name, layer, value);
  }
  Observer layer_observer(int64_t layer) const;

  ModelConfig config;
  const Architecture& row;
  std::shared_ptr<const ModelSource> source;  // of weights that are used in place
  ParamStore store;
  Param* embedding = nullptr;
  Param* positions = nullptr;  // learned ones
  Param* head = nullptr;       // the embedding where tied
  std::vector<Block> blocks;
  Norm embedding_norm, final_norm;
  float embedding_scale = 1;
  std::vector<Param*> residual_projections;
  std::function<void(const char*, int64_t, Tensor)> observer;
};

}  // namespace llmtool
