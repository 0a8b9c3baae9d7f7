#pragma once
// Block: attention and a feed-forward part beside a residual path, with norms where the family has them.

#include <array>
#include <functional>
#include <span>

#include "llmtool/kernels/activation.h"
#include "llmtool/kernels/attention.h"
#include "llmtool/kernels/elementwise.h"
#include "llmtool/kernels/norm.h"
#include "llmtool/kernels/rope.h"
#include "llmtool/nn/experts.h"
#include "llmtool/nn/linear.h"

namespace llmtool {

/// A norm's parameters; bias may be nullptr. Without a weight there is no norm.
struct Norm {
  NormKind kind = NormKind::rms;
  double eps = 1e-5;
  Param* weight = nullptr;
  Param* bias = nullptr;
  float offset = 0;  // of the weight

  explicit operator bool() const { return weight != nullptr; }
  bool trains() const { return weight && (weight->grad || (bias && bias->grad)); }
  NormWeights weights() const { return {kind, eps, weight->value, bias ? bias->value : Tensor(), offset}; }
  void forward(Exec& exec, Tensor x, Tensor y) const { norm(exec, weights(), x, y); }
  /// Adds to dx.
  void backward(Exec& exec, Tensor x, Tensor dy, Tensor dx) {
    norm_backward(exec, weights(), x, dy, dx, weight->grad, bias ? bias->grad : Tensor());
  }
};

/// Learnt keys and values in place of those of a sequence's first positions (Li and Liang 2021): row p of
/// `values` holds position p's key (K D) from `column` on, then its value. With `per_query` these are (H D),
/// a head for each query head, and never lie in a cache.
struct KvPrefix {
  Param* values = nullptr;
  int64_t column = 0;
  bool per_query = false;

  bool in_rows() const { return values && !per_query; }  // instead of the rows that the block computes
  int64_t count() const { return values->value.shape[0]; }
};

/// A learnt prompt that every position attends to besides, by a gate that starts at zero (Zhang et al. 2023).
struct AdaptionPrompt {
  Param* tokens = nullptr;  // (P, C): read by the projections of keys and values, without norm and position
  Param* gate = nullptr;    // (1)
  bool behind_out = false;  // what it gives is added behind the output projection (PEFT's GPT-2), else before
  bool repeats_bias = false;  // the projection's bias is added once more, as PEFT does
};

/// Called with the name of each intermediate result and its value.
using Observer = std::function<void(const char* name, Tensor value)>;

/// Sequences of N positions in all that lie one behind the other; none sees another.
struct Sequences {
  std::span<const int64_t> starts;  // (B + 1): sequence b is rows [starts[b], starts[b + 1])
  const int32_t* positions;         // (N)
  /// Tables (n, rotated dimensions) of rope_table, where the family rotates; row r % n for row r. The second
  /// is for layers with local_rope.
  std::array<Tensor, 2> rope = {};
  Tensor alibi = {};  // (H, n) of alibi_table, where the family has it
  /// One layer's caches when generating, one per sequence: of one sequence, or, when decoding, of one
  /// position each, several of which may belong to one cache.
  std::span<const KvRows> past = {};
  bool decoding = false;
  bool training = false;  // dropout is on
  const Observer* observer = nullptr;

  int64_t rows() const { return starts.back(); }
};

/// What backward needs of a forward pass. What a family has no use for is empty.
struct BlockSaved {
  Tensor x;              // (N, C): the block's input
  Tensor q_raw, k_raw;   // (N, H D), (N, K D): before their norms
  Tensor qkv;            // (N, (H + 2 K) D): after rotation
  Tensor attention;      // (N, H D)
  Tensor mixed;          // (N, H D): with what the adaption prompt gives
  Tensor lse;            // (N * H)
  Tensor attention_raw;  // (N, C): before attention_out_norm
  Tensor r_raw;          // (N, C): before after_attention_norm
  Tensor r;              // (N, C): after the attention's residual
  Tensor h;              // (N, F or 2 F): before the activation
  ExpertsSaved experts;
  Tensor mlp_raw;  // (N, C): before mlp_out_norm
  Tensor y_raw;    // (N, C): before after_mlp_norm
};

/// Each norm stands where its name says, or is absent:
///   n = attention_norm(x), a = attention_out_norm(attention(n)), r = after_attention_norm(x + a),
///   m = mlp_out_norm(mlp(mlp_norm(parallel ? x : r))), y = after_mlp_norm(r + m);
/// with shared_norm the feed-forward part, too, reads n.
class Block {
 public:
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  double attention_dropout = 0, residual_dropout = 0;
  AttentionRules rules;     // alibi: see Sequences
  bool local_rope = false;  // rotates by the second table
  Activation activation = Activation::silu;
  bool gated = true;
  bool parallel = false;  // the feed-forward part reads x, not r (GPT-J, Falcon)
  bool shared_norm = false;
  Norm attention_norm, attention_out_norm, after_attention_norm, mlp_norm, mlp_out_norm, after_mlp_norm;
  Norm q_norm, k_norm;        // of each head where their weights are (D), else of the whole row
  Linear qkv, out, up, down;  // `up` is gate and up side by side where gated
  Experts experts;            // instead of up and down, where there are any; without norms behind them
  KvPrefix prefix;
  AdaptionPrompt prompt;

  /// x, y (N, C). With saved == nullptr nothing is kept; with an empty y only `saved` is made, for less
  /// than the whole price. `rng` is the layer's own stream for dropout.
  void forward(Exec& exec, const Sequences& s, const Rng& rng, Tensor x, Tensor y, BlockSaved* saved) const;
  /// d (N, C) holds the gradient with respect to y and then, where `to_input`, that with respect to x.
  /// Nothing is computed that no parameter's gradient needs.
  void backward(Exec& exec, const Sequences& s, const Rng& rng, const BlockSaved& saved, Tensor d,
                bool to_input = true);
  bool trains() const { return attention_trains() || mlp_trains(); }

 private:
  struct Pass;
  void attention_part(const Pass& pass, Tensor x, Tensor n, BlockSaved& kept) const;
  bool attention_trains() const;
  bool mlp_trains() const;
  void write_prefix(Exec& exec, const Sequences& s, Tensor qkv_rows) const;
  void prefix_backward(Exec& exec, const Sequences& s, Tensor dqkv);
  /// result (N, H D) += what the adaption prompt gives to the queries among qkv's rows.
  void add_prompt(Exec& exec, Tensor qkv_rows, Tensor result) const;
  void prompt_backward(Exec& exec, Tensor qkv_rows, Tensor dresult, Tensor dqkv);
  /// The prompt's own rows of queries, keys and values, in scratch; raw (P, K D) receives the keys before
  /// their norm.
  Tensor prompt_rows(Exec& exec, Tensor raw) const;
  void attend(const Pass& pass, Tensor qkv_rows, Tensor result, Tensor lse) const;
  void normalize_heads(const Pass& pass, Tensor qkv_rows, BlockSaved& kept) const;
  void mlp_part(const Pass& pass, Tensor y, BlockSaved& kept) const;
  void finish(const Pass& pass, Tensor m, Tensor sum, Tensor r) const;
  void mlp_backward(Exec& exec, const Sequences& s, const Rng& rng, const BlockSaved& saved, Tensor n,
                    Tensor d, Tensor dn);
  void attention_backward_to_input(Exec& exec, const Sequences& s, const Rng& rng, const BlockSaved& saved,
                                   Tensor n, Tensor d, Tensor dn);
  void heads_backward(Exec& exec, const BlockSaved& saved, Tensor dqkv);
  Tensor mlp_source(const BlockSaved& saved) const { return parallel ? saved.x : saved.r; }
  AttentionInput attention_input(const Sequences& s, const Rng& rng, Tensor qkv) const;
  int64_t activated() const { return gated ? up.out() / 2 : up.out(); }
};

}  // namespace llmtool
