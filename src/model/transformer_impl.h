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

Activation activation_named(const std::string& name);  // hidden_act

/// A dense layer, its activation and perhaps a norm: BERT's pooler, and what its masked-LM head begins with.
struct Transform {
  Linear dense;
  Activation activation = Activation::tanh;
  Norm norm;

  explicit operator bool() const { return dense.out() > 0; }
  /// x (R, C) to y (R, C); raw and activated (R, C) receive what backward needs.
  void forward(Exec& exec, Tensor x, Tensor raw, Tensor activated, Tensor y) const;
  /// d (R, C): the gradient with respect to y, then that with respect to x.
  void backward(Exec& exec, Tensor x, Tensor raw, Tensor activated, Tensor d);
};

struct Transformer::Impl {
  Impl(ModelConfig c, std::shared_ptr<const ModelSource> files, const LoadOptions& options);
  void use_in_place();
  void quantize(DType type);  // gives the matrices their place
  void fill_quantized();
  void read_the_rest();

  /// Adds the parameters of a linear layer: weights first, so that they are neighbours in memory, then
  /// biases.
  Linear add_linear(const std::string& prefix, const std::vector<const char*>& names, int64_t in,
                    const std::vector<int64_t>& outs, bool bias);
  /// The norm of that name; none where the name is empty. `width` 0: C.
  Norm add_norm(const std::string& prefix, const char* name, int64_t width = 0);
  Block add_block(int64_t layer);
  Experts add_experts(const std::string& prefix);

  void add_head();

  /// `raw` receives what stands before the embedding's norm; x itself where there is none.
  void embed_tokens(Exec& exec, const Sequences& s, const Batch& batch, Tensor raw, Tensor x,
                    double noise = 0) const;
  void embed_virtual(Exec& exec, std::span<const int32_t> ids, Tensor x) const;
  void add_embedding_change(Exec& exec, const EmbeddingChange& change, std::span<const int32_t> ids,
                            Tensor x) const;
  void embedding_change_backward(Exec& exec, const EmbeddingChange& change, std::span<const int32_t> ids,
                                 Tensor d);
  void embed_tokens_backward(Exec& exec, const Sequences& s, const Batch& batch, Tensor d);
  /// Runs T new positions of each cache's sequence, which are, or will be, `lengths` long. Decoding, T is 1
  /// and a cache may stand in several rows.
  void run_layers(Exec& exec, std::span<const int32_t> ids, int64_t T, std::span<KvCache* const> caches,
                  std::span<const int64_t> lengths, bool decoding, Tensor last) const;
  /// Runs ids behind what the cache holds; `hidden` (n, C), where not empty, receives the last positions'
  /// output.
  void read(Exec& exec, std::span<const int32_t> ids, KvCache& cache, int64_t length, Tensor hidden) const;
  /// Reads what the cache holds again where `more` positions make the text longer than the trained context of
  /// longrope.
  void outgrow(Exec& exec, KvCache& cache, int64_t more) const;
  /// The last layer's output (N, C), in scratch; `prepare`, where given, is called before each layer.
  Tensor through_layers(Exec& exec, Sequences& s, const Batch& batch,
                        const std::function<void(int64_t layer)>& prepare) const;
  /// The same for whole sequences.
  Tensor last_layer(Exec& exec, const Batch& batch, std::span<const int64_t> starts) const;
  /// Rows without those of a learnt prefix, which are keys and values alone, and their starts.
  Tensor behind_prefix(Exec& exec, Tensor hidden, std::vector<int64_t>& starts) const;
  /// Where each sequence starts, and where the last ends. Throws Error naming what does not fit, an id of the
  /// batch among it.
  std::vector<int64_t> starts_of(Exec& exec, const Batch& batch) const;
  /// Positions 0.. of every sequence, in scratch.
  int32_t* count_positions(Exec& exec, std::span<const int64_t> starts) const;

  void require_generation() const;  // throws Error unless next tokens can be predicted
  /// The width of the logits.
  int64_t outputs() const { return output.out(); }
  /// The lowest layer that has something to train: -1 where it is the embedding, the number of layers where
  /// it is above them.
  int64_t lowest_trained() const;
  void refresh_adapters(Exec& exec);
  /// Calls visit(linear, whether it is the head) for all of them, in the order of the forward pass.
  void each_linear(const std::function<void(Linear&, bool)>& visit);
  /// hidden (R, C) as the last layer gives it, logits (R, outputs).
  void logits_of(Exec& exec, Tensor hidden, Tensor logits, bool few_rows) const;
  /// The rows of the last layer's output that a loss is for: those with a target, or one per sequence.
  std::vector<int64_t> rows_of_loss(Exec& exec, std::span<const int64_t> summaries,
                                    std::span<const int32_t> targets, std::vector<int32_t>& counted) const;
  /// hidden (N, C): the last layer's output. Where `dhidden` (N, C) is given it receives the gradient, and
  /// the parameters theirs. `summaries`: the rows that a classification head reads.
  LossSums head_loss(Exec& exec, const Sequences& s, std::span<const int64_t> summaries, Tensor hidden,
                     std::span<const int32_t> targets, const LossOptions& options, Tensor dhidden);
  /// Features (R, C) to losses, and to their own gradient where `gradient`.
  void output_loss(Exec& exec, Tensor features, std::span<const int32_t> targets, const LossOptions& options,
                   bool gradient, double* losses);
  /// The rows that a classification head reads: of each sequence the first where there is a pooler, else the
  /// last that is no padding.
  std::vector<int64_t> summary_rows(const Batch& batch, std::span<const int64_t> starts) const;
  void require_loss() const;  // throws Error unless the head has one

  /// Gives s what the family's positions need, in scratch. The sequences are, or will be, `lengths` long.
  void place(Exec& exec, Sequences& s, std::span<const int64_t> lengths) const;
  /// The rows of a fused query-key-value weight in files.
  std::vector<int64_t> qkv_file_rows() const;
  void check_ids(std::span<const int32_t> ids, int32_t lowest, int64_t limit, const char* what) const;
  void report(const char* name, int64_t layer, Tensor value) const {
    if (observer) observer(name, layer, value);
  }
  Observer layer_observer(int64_t layer) const;

  ModelConfig config;
  const Architecture& row;
  std::shared_ptr<const ModelSource> source;  // of weights that are used in place
  ParamStore store;
  MemoryBlock quantized_block;
  std::vector<Param*> quantized_params;  // whose values lie there
  QuantizedWeights quantized;
  Param* embedding = nullptr;
  Param* positions = nullptr;    // learned ones
  Param* token_types = nullptr;  // BERT's segments
  Param* head = nullptr;         // (V or labels, C); the embedding where tied
  Param* head_bias = nullptr;
  Linear output;        // by both
  Transform transform;  // in front of a language model's head
  Transform pooler;     // in front of a classification head
  std::vector<Block> blocks;
  VirtualTokens virtual_tokens;
  std::vector<EmbeddingChange> embedding_changes;
  Norm embedding_norm, final_norm;
  float embedding_scale = 1;
  std::vector<Param*> residual_projections;
  std::function<void(const char*, int64_t, Tensor)> observer;
};

}  // namespace llmtool
