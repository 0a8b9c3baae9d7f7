#pragma once
// Transformer: a decoder or encoder model, for training, generation, embedding and classification.

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "llmtool/core/exec.h"
#include "llmtool/core/tensor.h"
#include "llmtool/model/embedding.h"
#include "llmtool/model/kv_cache.h"
#include "llmtool/model/model_config.h"
#include "llmtool/nn/param_store.h"

namespace llmtool {

class ModelSource;

/// Sequences that lie one behind the other.
struct Batch {
  std::span<const int32_t> ids;
  std::vector<int64_t> lengths;               // of each sequence
  std::span<const int32_t> token_types = {};  // of each id, where the family has them (BERT); empty: 0

  /// Sequences of one length. Throws Error where the ids cannot be divided so.
  static Batch of(std::span<const int32_t> ids, int64_t sequences);
};

struct LossOptions {
  double scale =
      1;  // factor on every token's loss before it enters the gradient: 1 / tokens of the whole step
  double z_loss = 0;  // coefficient of log(Z)^2
  double label_smoothing = 0;
  std::span<const float> class_weights = {};  // of a classification head's losses, by label
  double neftune_noise_alpha = 0;             // of the noise on embeddings in training (Jain et al. 2023)
};

struct LossSums {
  double loss = 0;    // sum over the targets of -log p, z-loss included
  int64_t count = 0;  // targets that count
  double weight = 0;  // the sum of their class weights; `count` without these
};

/// Positions in front of every sequence that stand for no token: sequence b's first `count` ids are -1, -2,
/// ...
struct VirtualTokens {
  int64_t count = 0;
  Param* embeddings = nullptr;  // (count, C): prompt tuning (Lester et al. 2021); else they are zero
};

/// A change of low rank of the embedding: row i gets scale * B A[:, i] (Hu et al. 2021).
struct EmbeddingChange {
  Param *a, *b;  // (R, V), (C, R)
  float scale;
};

class Linear;
class Block;

/// A stored weight that an adapter can change: part `part` of `linear`.
struct LinearSite {
  std::string name;  // Hugging Face's, of the module: model.layers.0.self_attn.q_proj
  Linear* linear;
  size_t part;
  bool is_output;  // the head
};

/// Which of a model's parameters train, and how those that do not are stored.
struct LoadOptions {
  std::function<bool(const Param&)> trains = {};  // empty: none, and matrices stay in the file
  /// Frozen matrices of the layers' linear parts, routers excepted, are read into memory as this type (any
  /// that from_f32 writes), one at a time; the embedding and a language model's head as well, which no type
  /// of less than 8 bits holds: they become q8_0 then. What the file has in no more bits stays there.
  std::optional<DType> quantize = {};
};

/// What LoadOptions::quantize has made.
struct QuantizedWeights {
  int64_t matrices = 0;  // in the type asked for
  int64_t kept = 0;      // as they were: their rows are not whole blocks
  size_t bytes = 0;      // of memory
};

class Transformer {
 public:
  explicit Transformer(ModelConfig config);  // weights allocated, not yet set
  /// For generation alone: matrices stay where the files have them, in the type that they have there, and are
  /// mapped, not copied, where no row needs another place; the rest is read.
  explicit Transformer(std::shared_ptr<const ModelSource> source, const LoadOptions& options = {});
  ~Transformer();
  Transformer(Transformer&&) noexcept;

  const ModelConfig& config() const;
  const QuantizedWeights& quantized() const;
  ParamStore& params();
  const ParamStore& params() const;

  /// Random weights as the family initialises them (normal(0, initializer_range); GPT-2 scales residual
  /// projections by 1/sqrt(2 L); norms 1, biases 0).
  void initialize(uint64_t seed);

  // Inference. Rows of a batch do not influence each other: the same sequence gives the same bits in any
  // company.

  /// Runs `ids` after what the cache holds and appends them to it. Writes the logits of the last
  /// `logits.rows()` positions (n, V); n may be 0 to fill the cache only. Throws Error when the cache is full
  /// or an id is out of range. In a dry run the cache stays as it is. With longrope, what the cache holds is
  /// read again when the text grows beyond the trained context, as all of it is then rotated otherwise. A
  /// text has the same bits in whatever pieces it is read, but where shares_prefixes() says otherwise.
  void forward(Exec& exec, std::span<const int32_t> ids, KvCache& cache, Tensor logits) const;
  /// New tokens of several sequences: ids (B), caches (B), logits (B, V). A cache that stands in several
  /// rows, one behind the other, takes their tokens one after another, and each row has the bits that it
  /// would have if they came one at a time; at most room() of them.
  void decode(Exec& exec, std::span<const int32_t> ids, std::span<KvCache* const> caches,
              Tensor logits) const;
  /// How many tokens a decode may add to a sequence: what the cache and the context leave, and with longrope
  /// none on the other side of the trained context.
  int64_t room(const KvCache& cache) const;
  /// Whether the first positions of a text of `length` have the same keys and values as those of any other
  /// such text that begins so. Rotations that depend on the text's length make an end of that.
  bool shares_prefixes(int64_t length) const;

  // Whole sequences, without a cache; dropout off.

  /// The last layer's output behind the final norm (N, C), the reference library's last_hidden_state.
  void encode(Exec& exec, const Batch& batch, Tensor hidden) const;
  /// One vector per sequence (B, C). Throws Error for Pooling::pooler where the model has none.
  void embed_sequences(Exec& exec, const Batch& batch, Pooling pooling, Tensor vectors) const;
  /// The logits of a classification head (B, labels). Throws Error where the model has none.
  void classify(Exec& exec, const Batch& batch, Tensor logits) const;
  /// The logits of a language model's head (R, V) at those rows of the batch. Throws Error where the model
  /// has none.
  void token_logits(Exec& exec, const Batch& batch, std::span<const int64_t> rows, Tensor logits) const;

  // Training. Targets of every id, or, of a classification head, of every sequence; -1 does not count.

  /// Loss and gradients: accumulates d(scale * sum of losses) into the parameters' gradients.
  LossSums train_step(Exec& exec, const Batch& batch, std::span<const int32_t> targets,
                      const LossOptions& options, bool checkpointing);
  /// Loss alone, dropout off.
  LossSums evaluate(Exec& exec, const Batch& batch, std::span<const int32_t> targets);

  // Adapters: what attaches them owns their parameters, which must outlive the model's use.

  /// Every weight of a linear layer, in the order of the forward pass; routers and experts among them.
  std::vector<LinearSite> linear_sites();
  Block& block(int64_t layer);
  VirtualTokens& virtual_tokens();
  std::vector<EmbeddingChange>& embedding_changes();
  const Param& embedding() const;
  /// The name of a head's weight in files, its own where it is the embedding.
  std::string head_name() const;
  /// rows (n, C) = what the model makes of these ids before positions and norms; repeated where n is more.
  void embedding_rows(std::span<const int32_t> ids, Tensor rows) const;
  /// The ids in front of every sequence.
  std::vector<int32_t> virtual_ids() const;
  /// Brings what is computed from adapters' parameters alone up to date; train_step and evaluate do so
  /// themselves.
  void refresh_adapters(Exec& exec);

  /// Calls `observer` with every intermediate result of the passes to come: its name ("embedding",
  /// "attention_norm", "qkv", "attention", "attention_out", "mlp_norm", "mlp_up", "mlp_activation",
  /// "mlp_out", "block", "final_norm"), its layer (-1: none) and its value. An empty function ends it.
  void observe(std::function<void(const char* name, int64_t layer, Tensor value)> observer);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Opens what ModelSource::open does. Throws Error naming file and tensor.
Transformer load_transformer(const std::filesystem::path& path);
/// Reads weights into a model of the same shape; those that lie in a file stay as they are.
void load_weights(Transformer& model, const std::filesystem::path& path);
void load_weights(Transformer& model, const ModelSource& source);
/// The folder that holds config.json: `path` itself, or the model/ of a run folder. Throws UsageError.
std::filesystem::path find_model_folder(const std::filesystem::path& path);
/// The newest whole checkpoint of a run that holds this file; empty where there is none.
std::filesystem::path newest_checkpoint(const std::filesystem::path& run, const char* file);
/// What a checkpoint has instead of a model/ where a run trains a part of the weights: that part.
inline constexpr const char* kTrainedWeights = "trained.safetensors";
/// Writes config.json, generation_config.json and model.safetensors; `stored` is the weights' dtype in the
/// file.
void save_transformer(const Transformer& model, const std::filesystem::path& folder, DType stored);
/// config.json and generation_config.json alone.
void save_model_config(const ModelConfig& config, const std::filesystem::path& folder, DType stored);

}  // namespace llmtool
